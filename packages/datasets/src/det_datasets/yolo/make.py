"""Write YOLO's layout, and a tiny dataset in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import yaml
from numpy.typing import NDArray
from torch import Tensor

from det_datasets.copies import image_names, write_image
from det_datasets.practice import write_practice
from det_datasets.quads import quads_of_target
from det_datasets.yolo.config import TASKS
from detkit.interfaces import Dataset, DatasetWriter


class YoloWriter(DatasetWriter):
    """YOLO's layout: data.yaml, images/train/, and labels/train/*.txt, val and test alike.

    Coordinates have six digits. Crowds are left out, which YOLO has not. An outline of several parts becomes one, the
    parts joined by lines; a bitmap becomes the outline of its pixels, without holes.

    Args:
        task: detect, segment, pose or obb; "auto" is what the datasets have: rotated boxes, keypoints, masks, boxes.
            Oriented boxes of other datasets are the least around outlines.

    Raises:
        ValueError: there is no such task.
    """

    def __init__(self, *, task: str = "auto") -> None:
        if task not in ("auto", *TASKS):
            raise ValueError(f"task is {task!r}; it can be auto, {', '.join(TASKS)}")
        self.task = task

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits into a folder.

        Raises:
            ValueError: the datasets have different classes, or lack what the task needs.
        """
        datasets = list(splits.values())
        categories = datasets[0].categories
        if any(dataset.categories.names != categories.names for dataset in datasets):
            raise ValueError("the splits have different classes; data.yaml has one list for all of them")
        task = _task(datasets) if self.task == "auto" else self.task
        if task == "pose" and any(dataset.categories.keypoints is None for dataset in datasets):
            raise ValueError("the datasets have no keypoints, which `task: pose` needs")
        tree: dict[str, Any] = {"path": "."}
        for split, names in image_names(splits).items():
            images, labels = (folder / part / split for part in ("images", "labels"))
            images.mkdir(parents=True, exist_ok=True)
            labels.mkdir(parents=True, exist_ok=True)
            tree[split] = f"images/{split}"
            for index, name in enumerate(names):
                write_image(splits[split], index, images, name, (".jpg", ".png", ".bmp", ".tif", ".tiff", ".webp"))
                target, size = splits[split].target(index), splits[split].size(index)
                lines = [
                    " ".join((str(label), *(f"{value:.6f}".rstrip("0").rstrip(".") for value in values)))
                    for label, values, crowd in zip(
                        target["labels"].tolist(), _values(target, size, task), target["crowd"].tolist(), strict=True
                    )
                    if not crowd
                ]
                (labels / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
        tree["names"] = dict(enumerate(categories.names))
        tree["task"] = task
        if task == "pose" and categories.keypoints is not None:
            tree["kpt_shape"] = [len(categories.keypoints), 3]
            tree["flip_idx"] = list(categories.keypoints.flipped)
            tree["kpt_names"] = {label: list(categories.keypoints.names) for label in range(len(categories))}
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
        (folder / "data.yaml").write_text(text, encoding="utf-8")


def _task(datasets: list[Dataset]) -> str:
    if any(dataset.rotated for dataset in datasets):
        return "obb"
    if all(dataset.categories.keypoints is not None for dataset in datasets):
        return "pose"
    return "segment" if any(dataset.has_masks for dataset in datasets) else "detect"


def _values(target: Mapping[str, Any], size: tuple[int, int], task: str) -> Iterable[list[float]]:
    """The numbers after the class, of each object."""
    scale = np.array(size[::-1], np.float64)
    quads = quads_of_target(target) / scale
    if task == "obb":
        return [quad.ravel().tolist() for quad in quads]
    low, high = quads.min(axis=1), quads.max(axis=1)  # of rotated boxes, the upright ones around them
    if target["boxes"].shape[1] == 4:
        boxes = np.asarray(target["boxes"], np.float64).reshape(-1, 2, 2) / scale
        low, high = boxes[:, 0], boxes[:, 1]
    plain = np.concatenate(((low + high) / 2, high - low), axis=1).tolist()
    if task == "pose":
        points = np.asarray(target["keypoints"].as_subclass(Tensor), np.float64) / (*scale, 1)
        return [box + each.ravel().tolist() for box, each in zip(plain, points, strict=True)]
    if task == "detect" or "polygons" not in target:
        return plain
    outlines = [_joined(rings) for rings in target["polygons"].rings()]
    masks = target["masks"].numpy() if "masks" in target else [None] * len(outlines)
    found = []
    for box, outline, mask in zip(plain, outlines, masks, strict=True):
        border = _border(mask) if not len(outline) and mask is not None else outline
        found.append((border / scale).ravel().tolist() if len(border) else box)
    return found


def _joined(rings: list[NDArray[Any]]) -> NDArray[np.float64]:
    """One ring (P, 2) of several: from each to the next, and back the same way."""
    if len(rings) == 1:
        return rings[0].astype(np.float64)
    closed = [ring for each in rings for ring in (each, each[:1])]
    return np.concatenate([np.zeros((0, 2)), *closed, *(ring[:1] for ring in rings[-2:0:-1])])


def _border(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The outline (P, 2) of the pixels of a mask (H, W); (0, 2) if there are none."""
    steps = np.diff(np.pad(mask > 0, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (rows, starts), (_, ends) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    if not len(rows):
        return np.zeros((0, 2))
    whole = shapely.union_all(shapely.box(starts, rows, ends, rows + 1))
    parts = [shapely.simplify(part, 0) for part in getattr(whole, "geoms", [whole])]
    return _joined([shapely.get_coordinates(part.exterior)[:-1] for part in parts])


def make_yolo(
    out: Path, *, images: int = 12, val_images: int = 4, size: int = 96, seed: int = 0, task: str = "segment"
) -> None:
    """Write a tiny dataset of shapes for a task of YOLO's; see `make_shapes` and `YoloWriter`."""
    keypoints = task == "pose"
    write_practice(
        YoloWriter(task=task), out, images=images, val_images=val_images, size=size, seed=seed, keypoints=keypoints
    )
