"""From one annotation format to another, and what gets lost on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from detkit.atomic import new_folder
from detkit.data.source import Openable, find_splits
from detkit.interfaces import Dataset, DatasetWriter


@dataclass(frozen=True)
class Loss:
    """Something that a format did not take over."""

    split: str
    what: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.split} has {self.before} {self.what}, what was written {self.after}"


def convert(splits: Mapping[str, Dataset], writer: DatasetWriter, out: Path) -> list[Loss]:
    """Write datasets into a new folder, and read it again to see what is missing. The folder appears when it is
    complete, or not at all.

    Returns:
        what the new files have less of than the datasets: a format may have no masks, no crowds, ...

    Raises:
        ValueError: the folder is not empty, the format cannot hold the datasets, or no reader finds what was written.
    """
    with new_folder(out) as folder:
        writer.write(splits, folder)
        written = _splits_in(folder)
        losses = []
        for name, dataset in splits.items():
            before = contents(dataset)
            after = contents(written[name].open()) if name in written else {}
            losses += [
                Loss(name, what, before.get(what, 0), after.get(what, 0))
                for what in before
                if before[what] > after.get(what, 0)
            ]
    return losses


def _splits_in(folder: Path) -> Mapping[str, Openable]:
    """Those of a folder that a reader knows, else of the data.yaml in it."""
    try:
        return find_splits(folder)
    except ValueError:
        if not (folder / "data.yaml").is_file():
            raise
        return find_splits(folder / "data.yaml")


def contents(dataset: Dataset) -> dict[str, int]:
    """How much of everything a dataset has."""
    found = {
        "images": len(dataset),
        "objects": 0,
        "crowds": 0,
        "masks": 0,
        "objects with keypoints": 0,
        "rotated boxes": 0,
    }
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
    return found
