"""Writing WebDataset's layout."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from det_datasets.by_image import by_image
from det_datasets.copies import image_names, write_image
from det_datasets.webdataset.dataset import CATEGORIES
from detkit.data.image import IMAGE_SUFFIXES
from detkit.data.stores.shards import write_index
from detkit.interfaces import Dataset, DatasetWriter

_FORMATS = (".jpg", *sorted(IMAGE_SUFFIXES - {".jpg", ".jpeg"}))


class WebDatasetWriter(DatasetWriter):
    """Writes what `WebDataset` reads: `train-000000.tar`, ..., each with an index beside it, and `categories.json`.

    Args:
        shard_size: images in a shard.
    """

    def __init__(self, shard_size: int = 1000) -> None:
        if shard_size < 1:
            raise ValueError(f"shard_size is {shard_size}; at least 1 is needed")
        self.shard_size = shard_size

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits of a dataset.

        Raises:
            ValueError: splits have different categories, or no ground truth as COCO has it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        names = image_names(splits, unfit=r"\.")  # with the first dot of a name its key ends
        categories = None
        for split, dataset in splits.items():
            head, entries = dataset.streamed_truth()
            if categories not in (None, head["categories"]):
                raise ValueError(f"the categories of {split} are not those of the other splits; one list is needed")
            categories = head["categories"]
            with by_image(entries, folder) as annotations:
                self._write_split(split, dataset, head["images"], annotations, names[split], folder)
        (folder / CATEGORIES).write_bytes(msgspec.json.format(msgspec.json.encode(categories)))

    def _write_split(
        self,
        split: str,
        dataset: Dataset,
        listed: list[dict[str, Any]],
        annotations: Callable[[int | str], list[dict[str, Any]]],
        names: list[str],
        folder: Path,
    ) -> None:
        images = {entry["id"]: entry for entry in listed}
        for shard, first in enumerate(range(0, len(dataset), self.shard_size)):
            path = folder / f"{split}-{shard:06}.tar"
            with tarfile.open(path, "w") as tar, TemporaryDirectory() as scratch:
                for index in range(first, min(first + self.shard_size, len(dataset))):
                    image = Path(scratch) / write_image(dataset, index, Path(scratch), names[index], _FORMATS)
                    id = dataset.image_id(index)
                    text = image.with_suffix(".json")
                    text.write_bytes(msgspec.json.encode(_entry(images[id], annotations(id))))
                    for file in (image, text):
                        tar.add(file, file.name, filter=_plain)
                        file.unlink()
            write_index(path)


def _entry(image: Mapping[str, Any], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    left_out = {"file_name"} if isinstance(image["id"], int) else {"file_name", "id"}
    return {**{key: image[key] for key in image if key not in left_out}, "annotations": annotations}


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without what differs from machine to machine: the same samples make the same file."""
    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname, entry.mode = 0, 0, 0, "", "", 0o644
    return entry
