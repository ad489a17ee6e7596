"""From one annotation format to another, and what gets lost or made on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from detkit.atomic import new_folder
from detkit.data.written import written_splits
from detkit.interfaces import Dataset, DatasetWriter

_OF_IMAGES = {"id", "name", "file_name", "height", "width"}
_OF_CATEGORIES = {"id", "name", "swaps"}  # left and right can be told by names, too
_OF_ANNOTATIONS = {"id", "image_id", "category_id", "bbox", "area", "segmentation", "keypoints", "num_keypoints"}
_MARKS = {"ignore": "difficult objects", "truncated": "truncated objects", "occluded": "occluded objects"}


@dataclass(frozen=True)
class Difference:
    """Something that a format did not take over, or that had to be made for it."""

    split: str
    what: str
    before: int
    after: int

    @property
    def lost(self) -> bool:
        """Whether there is less of it than there was."""
        return self.after < self.before

    def __str__(self) -> str:
        return f"{self.split} has {self.before} {self.what}, what was written {self.after}"


def convert(splits: Mapping[str, Dataset], writer: DatasetWriter, out: Path) -> list[Difference]:
    """Write datasets into a new folder, and read it again to see what is different. The folder appears when it is
    complete, or not at all.

    Returns:
        what the new files have less of than the datasets: a format may have no masks, no crowds, ...; and what they
        have more of: rotated boxes that were found around outlines, ...

    Raises:
        ValueError: the folder is not empty, the format cannot hold the datasets, or no reader finds what was written.
    """
    with new_folder(out) as folder:
        writer.write(splits, folder)
        written = written_splits(folder)
        found: list[Difference] = []
        for name, dataset in splits.items():
            before, after = contents(dataset), Counter[str]()
            if name in written:
                now = written[name].open()
                after = contents(now)
                before["classes of that name"] = len(dataset.categories)
                known = [now.categories.label_of_name(own) is not None for own in dataset.categories.names]
                after["classes of that name"] = sum(known)
            different = [what for what in before | after if before[what] != after[what]]
            found += [Difference(name, what, before[what], after[what]) for what in different]
    return found


def contents(dataset: Dataset) -> Counter[str]:
    """How much of everything a dataset has. What COCO's form of it says besides what every dataset says is counted by
    its key."""
    found = Counter[str](images=len(dataset))
    for index in range(len(dataset)):
        target = dataset.target(index)
        objects = len(target["labels"])
        found["objects"] += objects
        found["crowds"] += int(target["crowd"].sum())
        found["masks"] += int(target["has_mask"].sum()) if "has_mask" in target else 0
        found["rotated boxes"] += objects if dataset.rotated else 0
        if "keypoints" in target:
            points = target["keypoints"].as_subclass(Tensor)
            found["objects with keypoints"] += int((points[..., 2] > 0).any(dim=1).sum())
    found["images with labels of pixels"] = len(dataset) if dataset.semantic_categories is not None else 0
    found["images with panoptic segments"] = len(dataset) if dataset.has_panoptic else 0
    found.update(_said(dataset))
    return found


def _said(dataset: Dataset) -> Iterator[str]:
    """What is said of images, categories and annotations, once for each of which it is said. What is 0 or empty says
    nothing."""
    try:
        head, annotations = dataset.streamed_truth()
    except ValueError:  # it is not in COCO's form: a dataset of labels of pixels, say
        return
    for entry in head["images"]:
        yield from (f"images with `{key}`" for key in _others(entry, _OF_IMAGES))
    for entry in head["categories"]:
        yield from (f"classes with `{key}`" for key in _others(entry, _OF_CATEGORIES))
    for entry in annotations:
        crowd = entry.get("iscrowd")
        for key in _others(entry, _OF_ANNOTATIONS):
            if key in _MARKS and not (key == "ignore" and crowd):
                yield _MARKS[key]
            elif key not in (*_MARKS, "iscrowd"):
                yield f"objects with `{key}`"


def _others(entry: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    return (key for key, value in entry.items() if key not in known and value)
