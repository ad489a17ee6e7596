"""Metrics of labelled pixels on Cityscapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from det_datasets.cityscapes.dataset import CityscapesDataset
from det_datasets.cityscapes.labels import BY_ID, MEAN_AREAS, WHOLE
from det_datasets.evaluating import Table, percent, undefined_table
from det_datasets.semantic.evaluator import SemanticEvaluator
from detkit.atomic import write_whole
from detkit.interfaces import Dataset
from detkit.structures.prediction import Prediction

METRICS = ("mIoU", "iIoU", "IoU_sup", "iIoU_sup")


class CityscapesSemanticEvaluator(SemanticEvaluator):
    """Intersection over union of pixels as Cityscapes defines it, to the numbers of its own scripts.

    Section "cityscapes_semantic", in the names of Detectron2: `mIoU` over the 19 classes, and `iIoU`, in which the
    pixels of each object of the 8 classes of things weigh the more the smaller it is; `IoU_sup` and `iIoU_sup` are the
    same of the 7 groups of classes, in which classes of one group may be confused. From 0 to 1; None where there is
    nothing to measure. Unlike `semantic`, a class that is only answered has IoU 0 and counts in the mean.
    """

    title: ClassVar[str] = "Cityscapes: pixels"

    def start(self, dataset: Dataset) -> None:
        if not isinstance(dataset, CityscapesDataset):
            raise ValueError(
                f"{type(dataset).__name__} is not read as Cityscapes, whose objects and groups the evaluator "
                "'cityscapes-semantic' needs; use 'semantic'"
            )
        super().start(dataset)
        pixels = dataset.semantic_categories
        assert pixels is not None
        if set(pixels.ids) - BY_ID.keys() or "things" in pixels.names:
            raise ValueError("Cityscapes' metrics are of its 19 classes of pixels; leave out `things_together`")
        self._cityscapes = dataset
        self._groups = np.array(pixels.supercategories)
        self._label_of = np.zeros(len(BY_ID), np.int64)  # by the class's id
        self._label_of[list(pixels.ids)] = range(len(pixels))
        self._objects: list[NDArray[np.int64]] = []
        self._rows: dict[str, tuple[float | None, float | None]] = {}

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        super().add(prediction, info)
        truth = self._cityscapes.instance_map(info["image_id"]).numpy()
        things = truth >= WHOLE
        values, numbers = np.unique(truth[things], return_inverse=True)
        answer = prediction.semantic.numpy(force=True)[things]
        evaluated = np.isin(values // WHOLE, self._cityscapes.categories.ids)
        labels = self._label_of[np.where(evaluated, values // WHOLE, 0)]
        groups = np.append(self._groups, "")[np.minimum(answer, len(self._groups))]
        right = answer == labels[numbers]
        alike = groups == self._groups[labels][numbers]
        counts = [np.bincount(numbers[which], minlength=len(values)) for which in (slice(None), right, alike)]
        self._objects.append(np.stack((labels, *counts), axis=1)[evaluated])

    def state(self) -> Any:
        return super().state(), self._objects

    def merge(self, states: Iterable[Any]) -> None:
        states = list(states)
        super().merge(counts for counts, _ in states)
        self._objects = [rows for _, objects in states for rows in objects]

    def compute(self) -> dict[str, dict[str, Any]]:
        super().compute()
        objects = np.concatenate([np.zeros((0, 4), np.int64), *self._objects])
        areas = np.array([MEAN_AREAS.get(name, 0.0) for name in self._names])
        weights = areas[objects[:, 0]] / np.maximum(objects[:, 1], 1)
        self._rows = {}
        for label, name in enumerate(self._names):
            mine = objects[:, 0] == label
            self._rows[name] = self._values(np.arange(len(self._names)) == label, objects[mine], weights[mine], 2)
        group_of = self._groups[objects[:, 0]]
        for group in dict.fromkeys(self._groups.tolist()):
            mine = group_of == group
            self._rows[f"group {group}"] = self._values(self._groups == group, objects[mine], weights[mine], 3)
        classes = [self._rows[name] for name in self._names]
        groups = list(self._rows.values())[len(self._names) :]
        values = [_mean(row[position] for row in rows) for rows in (classes, groups) for position in (0, 1)]
        return {"cityscapes_semantic": dict(zip(METRICS, values, strict=True))}

    def _values(
        self, members: NDArray[np.bool_], objects: NDArray[np.int64], weights: NDArray[np.float64], column: int
    ) -> tuple[float | None, float | None]:
        """IoU and iIoU of some classes together, of whose objects a `column` counts the pixels that were found."""
        inside = self._counts[members]
        right = int(inside[:, :-1][:, members].sum())
        made_up = int(self._counts[~members][:, :-1][:, members].sum())
        whole = int(inside.sum()) + made_up
        iou = right / whole if whole else None
        if not set(np.array(self._names)[members]) <= set(self._dataset.categories.names):
            return iou, None
        # Rounded once, so that the order of images changes nothing.
        found = math.fsum(objects[:, column] * weights)
        there = math.fsum(objects[:, 1] * weights)
        return iou, found / (there + made_up) if there + made_up else None

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        rows = [(name, *map(percent, values)) for name, values in self._rows.items()]
        reasons = [(name, "neither labelled nor answered") for name, (iou, _) in self._rows.items() if iou is None]
        reasons.append(("iIoU of others", "not a class of things, which have instances"))
        table: Table = ("Cityscapes' IoU of pixels (%)", ("class", "IoU", "iIoU"), rows)
        return [table, *undefined_table(reasons, "class")]

    def reasons(self) -> Mapping[str, Mapping[str, str]]:
        return {"cityscapes_semantic": dict.fromkeys(METRICS, "no class is labelled or answered")}

    def save(self, folder: Path) -> None:
        """Write `cityscapes_semantic_per_class.json`."""
        values = {name: {"IoU": iou, "iIoU": instances} for name, (iou, instances) in self._rows.items()}
        write_whole(folder / "cityscapes_semantic_per_class.json", msgspec.json.encode(values).decode())


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
