"""Images with COCO annotations in tar shards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from det_datasets.coco.dataset import CocoDataset
from det_datasets.webdataset.samples import gather
from detkit.data.stores.files import is_url
from detkit.data.stores.store import find_shards, local_file

CATEGORIES = "categories.json"


class WebDataset(CocoDataset):
    """Tar shards in WebDataset's layout: `KEY.jpg` (or another image format) and `KEY.json` for every image, no key
    twice.

    The JSON file holds `height` and `width` of the image and its `annotations` as in COCO's files, without `image_id`,
    and what else is known of the image; its `id`, a number, in all samples or in none: then they are counted from 1. A
    file `categories.json` beside the shards is COCO's list of `categories`. The annotations are gathered in the cache
    folder, once for each state of the shards. `detkit data make webdataset` writes a small example.

    Args:
        shards: `train-{000..009}.tar`, `train-*.tar` or a folder of .tar files; paths or URLs.
        categories: the file of categories, if it is not beside the first shard.
        keypoints: see `CocoDataset`.
        min_keypoints: see `CocoDataset`.

    Raises:
        ValueError: a shard cannot be read, a sample is incomplete, or its annotations make no sense.
    """

    layout: ClassVar[str] = "train-*.tar (and val-*.tar, test-*.tar) with categories.json beside them"

    def __init__(
        self,
        shards: Path | str,
        categories: Path | str | None = None,
        keypoints: Mapping[str, Any] | None = None,
        min_keypoints: int = 0,
    ) -> None:
        found = find_shards(str(shards))
        if found is None:
            raise ValueError(f"{shards} is no tar file, nor a folder of tar files")
        annotations = gather(found, local_file(categories or _beside(found[0])))
        super().__init__(images=shards, annotations=annotations, keypoints=keypoints, min_keypoints=min_keypoints)

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        if not (path / CATEGORIES).is_file():
            return None
        splits = ("train", "val", "test")
        found = {split: {"shards": path / f"{split}-*.tar"} for split in splits if any(path.glob(f"{split}-*.tar"))}
        return found or None


def _beside(shard: str) -> Path | str:
    return f"{shard.rpartition('/')[0]}/{CATEGORIES}" if is_url(shard) else Path(shard).parent / CATEGORIES
