"""Writing COCO's format."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec
from PIL import Image

from det_datasets.pixels import write_names
from detkit.data.written import DATA
from detkit.interfaces import Dataset, DatasetWriter

Images = Literal["copy", "link", "symlink", "keep"]
Annotations = Iterator[dict[str, Any]]


class CocoWriter(DatasetWriter):
    """COCO's format in a folder for each split: train/annotations.json, train/images/ and, where pixels have labels,
    train/semantic/*.png with train/semantic.json.

    Everything that `Dataset.ground_truth` says is written as it is: ids, boxes, areas, polygons, RLE, crowds,
    keypoints. Images that have names instead of numbers for ids are numbered from 1 on, and their `name` is written.

    Args:
        images: "copy" the files; "link" them: a second name of the same file, or a copy where that is not possible;
            "symlink"; or "keep" them where they are: then annotations/train.json and data.yaml are written, to be read
            with `data=FOLDER/data.yaml`.
    """

    def __init__(self, *, images: Images = "copy") -> None:
        if images not in ("copy", "link", "symlink", "keep"):
            raise ValueError(f"images is {images!r}; there are 'copy', 'link', 'symlink' and 'keep'")
        self.images = images

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits into a folder.

        Raises:
            ValueError: a dataset has no objects at all, or an image cannot be read.
        """
        entries: dict[str, dict[str, str]] = {}
        for split, dataset in splits.items():
            try:
                head, annotations = dataset.streamed_truth()
            except ValueError as error:
                raise ValueError(f"{split} cannot be written as COCO's files: {error}") from None
            if not head["categories"]:
                raise ValueError(f"{split} has no classes of objects; write it in a format of labels of pixels")
            head, annotations = _with_numbers(head, annotations)
            if self.images == "keep":
                entries[split] = self._keep(split, dataset, head, annotations, folder)
            else:
                self._write(dataset, head, annotations, folder / split)
        if entries:
            import yaml

            (folder / DATA).write_text(yaml.safe_dump(entries, sort_keys=False), encoding="utf-8")

    def _write(self, dataset: Dataset, head: dict[str, Any], annotations: Annotations, folder: Path) -> None:
        (folder / "images").mkdir(parents=True)
        entries = {entry["id"]: entry for entry in head["images"]}
        taken: set[str] = set()
        for index, entry in enumerate(_in_order(dataset, entries)):
            name = entry["file_name"] = _free(_inside(entry.get("file_name") or dataset.place(index)), taken)
            target = folder / "images" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self._place(dataset, index, target)
        if dataset.semantic_categories is not None:
            self._write_pixels(dataset, entries, folder / "semantic")
        write_coco(folder / "annotations.json", head, annotations)

    def _place(self, dataset: Dataset, index: int, target: Path) -> None:
        source = Path(dataset.place(index))
        if self.images != "copy" and source.is_file():
            if self.images == "symlink":
                target.symlink_to(source.resolve())
                return
            try:
                os.link(source.resolve(), target)
                return
            except OSError:  # another file system, or one without links
                shutil.copyfile(source, target)
                return
        target.write_bytes(dataset.encoded(index))

    def _write_pixels(self, dataset: Dataset, entries: Mapping[Any, dict[str, Any]], folder: Path) -> None:
        assert dataset.semantic_categories is not None
        folder.mkdir()
        for index, entry in enumerate(_in_order(dataset, entries)):
            path = (folder / entry["file_name"]).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(dataset.semantic_map(dataset.image_id(index)).numpy()).save(path)
        write_names(folder, dataset.semantic_categories)

    def _keep(
        self, split: str, dataset: Dataset, head: dict[str, Any], annotations: Annotations, folder: Path
    ) -> dict[str, str]:
        places = [Path(dataset.place(index)) for index in range(len(dataset))]
        if not all(place.is_file() for place in places):
            raise ValueError(f"the images of {split} are not files of this machine; copy them with --images copy")
        resolved = [place.resolve() for place in places]
        common = Path(os.path.commonpath([place.parent for place in resolved]))
        entries = {entry["id"]: entry for entry in head["images"]}
        for entry, place in zip(_in_order(dataset, entries), resolved, strict=True):
            entry["file_name"] = place.relative_to(common).as_posix()
        file = folder / "annotations" / f"{split}.json"
        file.parent.mkdir(exist_ok=True)
        found = {"images": str(common), "annotations": f"annotations/{split}.json"}
        if dataset.semantic_categories is not None:
            self._write_pixels(dataset, entries, folder / f"semantic_{split}")
            found["semantic"] = f"semantic_{split}"
        write_coco(file, head, annotations)
        return found


def write_coco(path: Path, head: Mapping[str, Any], annotations: Annotations) -> None:
    """Write a COCO file: what it holds besides annotations, and these, which are not in memory together."""
    with path.open("wb") as file:
        file.write(msgspec.json.encode(head)[:-1] + b',"annotations":[')
        between = b""
        for entry in annotations:
            file.write(between + msgspec.json.encode(entry))
            between = b",\n"
        file.write(b"]}")


def _with_numbers(head: dict[str, Any], annotations: Annotations) -> tuple[dict[str, Any], Annotations]:
    """The parts of a COCO file whose images have numbers for ids, as the format asks for; `name` is what the dataset
    knows them by. Entries of images are new ones."""
    if all(isinstance(entry["id"], int) for entry in head["images"]):
        return {**head, "images": [dict(entry) for entry in head["images"]]}, annotations
    numbers = {entry["id"]: number for number, entry in enumerate(head["images"], start=1)}
    images = [{**entry, "id": numbers[entry["id"]], "name": entry["id"]} for entry in head["images"]]
    return {**head, "images": images}, ({**entry, "image_id": numbers[entry["image_id"]]} for entry in annotations)


def _in_order(dataset: Dataset, entries: Mapping[Any, dict[str, Any]]) -> list[Any]:
    """The entries of the dataset's images, in its order."""
    named = {entry["name"]: entry for entry in entries.values() if isinstance(entry.get("name"), str)}
    ids = [dataset.image_id(index) for index in range(len(dataset))]
    return [named[id] if isinstance(id, str) else entries[id] for id in ids]


def _inside(name: str) -> str:
    """The name of a file, with the folders that it is in unless these lead elsewhere."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.name if path.is_absolute() or ".." in path.parts or ":" in name else str(path)


def _free(name: str, taken: set[str]) -> str:
    """The name, or one with a number where another image has it."""
    path, found, number = PurePosixPath(name), name, 1
    while found.lower() in taken:
        number += 1
        found = str(path.with_name(f"{path.stem}_{number}{path.suffix}"))
    taken.add(found.lower())
    return found
