"""Open Images' boxes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from det_datasets.annotated import AnnotatedImages
from det_datasets.arrays import count_problem, cut, make_columns
from det_datasets.cache import Annotations, cached
from det_datasets.columns import MARKS
from det_datasets.headers import read_sizes
from det_datasets.openimages.table import image_number, read_boxes, read_classes
from detkit.data.image import IMAGE_SUFFIXES
from detkit.data.stores.store import local_folder
from detkit.structures.categories import Categories

SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""What splits are called in Open Images."""

_SLACK = 0.01  # pixels over the border that come from rounding to six digits


class OpenImagesDataset(AnnotatedImages):
    """Open Images V4 to V7 (https://storage.googleapis.com/openimages/web/; Kuznetsova et al., 2020): boxes of 600
    classes. Images are called "000a1249af2bc5f0", as their files.

    To download: the images with boxes, all or some, with the tools described there, into train/, validation/ and test/;
    oidv6-train-annotations-bbox.csv, validation-annotations-bbox.csv, test-annotations-bbox.csv and
    oidv7-class-descriptions-boxable.csv. Annotations are licensed by Google under CC BY 4.0, images are listed as
    CC BY 2.0.

    Images that are in the folder count, whether they have boxes or not, and rows of others are left out. Boxes are
    shares of the images' sizes, which are in their headers. A group of objects in one box is a crowd. Labels are in the
    order of the list of classes, ids count from 1 in that order; `class_ids` has Open Images' own. Files are read once
    (a minute for those of train), and then kept; see `det_datasets.cache`.

    Args:
        folder: with the folders of images, or with images/, and with the CSV files, or with annotations/.
        split: train, val or test.

    Raises:
        ValueError: a file is missing, or a row makes no sense, which the message names.
    """

    layout: ClassVar[str] = (
        "train/ or images/train/ with *train-annotations-bbox.csv and *class-descriptions-boxable.csv, here or in "
        "annotations/; validation and test alike"
    )

    def __init__(self, folder: Path, split: str = "train") -> None:
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; there are {', '.join(SPLITS)}")
        folder, name = local_folder(folder), SPLITS[split]
        places = (folder / name, folder / "images" / name)
        images = next((place for place in places if place.is_dir()), places[0])
        boxes, classes = _file(folder, f"{name}-annotations-bbox.csv"), _file(folder, "class-descriptions-boxable.csv")
        for path, wanted in ((boxes, f"{name}-annotations-bbox"), (classes, "class-descriptions-boxable")):
            if path is None:
                raise ValueError(f"there is no file *{wanted}.csv in {folder} or {folder / 'annotations'}")
        assert boxes is not None
        assert classes is not None
        names = _images(images)
        self.class_ids, class_names = read_classes(classes)
        try:
            categories = Categories(class_names)
        except ValueError as error:
            raise ValueError(f"{classes}: {error}") from None
        found = cached(
            partial(_read, images, names, boxes, self.class_ids, categories),
            reader="openimages 1",
            watched=[boxes, classes, *(f"{images}/{name}" for name in names)],
            slow=True,
        )
        super().__init__(
            source=boxes,
            images=images,
            columns=found.columns,
            categories=categories,
            problems=found.problems,
        )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        if _file(path, "class-descriptions-boxable.csv") is None:
            return None
        found = {
            split: {"folder": path, "split": split}
            for split, name in SPLITS.items()
            if _file(path, f"{name}-annotations-bbox.csv") is not None
            and ((path / name).is_dir() or (path / "images" / name).is_dir())
        }
        return found or None

    def _category_entries(self) -> list[dict[str, Any]]:
        entries = super()._category_entries()
        return [{**entry, "class_id": id} for entry, id in zip(entries, self.class_ids, strict=True)]


def _file(folder: Path, ending: str) -> Path | None:
    """The file with this ending; the last one, if several versions are there."""
    for place in (folder, folder / "annotations"):
        if found := sorted(place.glob(f"*{ending}")):
            return found[-1]
    return None


def _images(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError as error:
        raise ValueError(f"cannot list the images in {folder}: {error.strerror}") from None
    names = [name for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]
    if not names:
        raise ValueError(f"there are no images in {folder}")
    return sorted(names)


def _read(
    folder: Path, names: list[str], boxes_file: Path, class_ids: tuple[str, ...], categories: Categories
) -> Annotations:
    problems: Counter[str] = Counter()
    numbered = {image_number(os.path.splitext(name)[0]): name for name in names}
    strangers = len(names) - len(numbered) + (None in numbered)
    count_problem(problems, "images are not called as in Open Images (16 hexadecimal digits): left out", strangers)
    known = sorted((number, name) for number, name in numbered.items() if number is not None)
    if not known:
        raise ValueError(f"no image in {folder} is called as in Open Images, by 16 hexadecimal digits")
    numbers = np.array([number for number, _ in known], np.uint64)
    names = [name for _, name in known]
    empty = (np.zeros(0, np.int32), np.zeros(0, np.int16), np.zeros((0, 4), np.float32), np.zeros((0, 3), bool))
    columns: list[list[NDArray[Any]]] = [[column] for column in empty]
    others = 0
    for block in read_boxes(boxes_file, class_ids):
        positions = np.searchsorted(numbers, block.images).clip(max=len(numbers) - 1)
        rows = np.flatnonzero(numbers[positions] == block.images)
        others += len(positions) - len(rows)
        kept: tuple[NDArray[Any], ...] = (
            positions.astype(np.int32),
            block.labels.astype(np.int16),
            block.boxes.astype(np.float32),
            block.flags,
        )
        for column, values in zip(columns, kept, strict=True):
            column.append(values[rows])
    count_problem(problems, "boxes belong to images that are not in the folder: left out", others)
    images, labels, boxes, flags = (np.concatenate(column) for column in columns)
    columns.clear()
    sizes = read_sizes([f"{folder}/{name}" for name in names])
    order = np.argsort(images, kind="stable")
    scale = sizes[images[order]]
    inside, good = cut(boxes[order].astype(np.float64) * scale[:, [1, 0, 1, 0]], scale, problems, _SLACK)
    order = order[good]
    occluded, truncated, group = flags[order].T
    found = make_columns(
        image_ids=[os.path.splitext(name)[0] for name in names],
        names=names,
        sizes=sizes,
        images=images[order].astype(np.int64),
        labels=labels[order].astype(np.int64),
        boxes=inside[good],
        crowd=group,
        marks=(MARKS["occluded"] * occluded + MARKS["truncated"] * truncated).astype(np.uint8),
    )
    return Annotations(found, categories, problems)
