"""PASCAL VOC's metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from det_datasets.evaluating import (
    Table,
    checked_id,
    checked_labels,
    coco_truth,
    percent,
    undefined_table,
    warn_of_missing,
)
from det_datasets.quads import corners
from det_datasets.voc.precision import THRESHOLDS, Answers, average_precision
from detkit.atomic import write_whole
from detkit.interfaces import Dataset, Evaluator
from detkit.ops.rotated_iou import rotated_iou
from detkit.results import ResultLog, State
from detkit.structures.prediction import Prediction

SECTIONS = ("voc07", "voc12")
METRICS = ("AP", "AP50", "AP75")
_FROM_ONE = np.array((1.0, 1.0, 0.0, 0.0))  # from edges to the first and the last pixel, counted from 1


class VocEvaluator(Evaluator):
    """Average precision of boxes as PASCAL VOC defines it (Everingham et al., 2010).

    Section "voc07" has the AP of 2007, the mean precision at eleven recalls; "voc12" that of later years, the area
    below the curve. Results on 2007's test set are published with the former. `AP50` is VOC's own metric; `AP` is the
    mean over intersections over union of 0.5, 0.55, ... 0.95, and `AP75` is at 0.75, as in Detectron2; from 0 to 1,
    on average over the classes that have objects, None where none has.

    The rules are those of the Python devkit: an overlap must be more than the threshold; every detection counts,
    however many there are; boxes end with the last pixel. Difficult objects, and crowds, need not be found and are not
    wrong.

    Rotated boxes are compared as such, which is what DOTA's Task 1 measures.
    """

    title: ClassVar[str] = "PASCAL VOC"

    def start(self, dataset: Dataset) -> None:
        truth = coco_truth(dataset, "voc")
        self._log = ResultLog()
        self._names = dataset.categories.names
        self._images = [entry["id"] for entry in truth["images"]]
        self._rotated = dataset.rotated
        rows: dict[Any, list[tuple[int, bool, list[float]]]] = defaultdict(list)
        self._objects = [0] * len(self._names)
        for entry in truth["annotations"]:
            label = dataset.categories.label_of_id(entry["category_id"])
            difficult = bool(entry.get("ignore") or entry["iscrowd"])
            self._objects[label] += not difficult
            rows[entry["image_id"]].append((label, difficult, entry["bbox"]))
        self._truth = {image_id: _Objects(rows[image_id], rotated=self._rotated) for image_id in self._images}
        self._values = np.full((len(self._names), len(SECTIONS), len(THRESHOLDS)), np.nan)

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        image_id = checked_id(info, self._truth)
        labels = checked_labels(prediction, image_id, len(self._names))
        boxes = prediction.boxes.numpy(force=True).astype(np.float64)
        if (boxes.shape[1] == 5) != self._rotated:
            kinds = ("rotated", "upright") if boxes.shape[1] == 5 else ("upright", "rotated")
            raise ValueError(f"the model answers {kinds[0]} boxes, and the dataset has {kinds[1]} ones")
        overlap, target, difficult = self._truth[image_id].nearest(boxes, labels)
        record = {
            "scores": prediction.scores.numpy(force=True).astype(np.float64),
            "labels": labels,
            "boxes": boxes,
            "overlap": overlap,
            "target": target,
            "difficult": difficult,
        }
        self._log.append(image_id, record)

    def state(self) -> State:
        return self._log.state()

    def merge(self, states: Iterable[State]) -> None:
        self._log.merge(states)

    def compute(self) -> dict[str, dict[str, Any]]:
        warn_of_missing(len(self._images), len(self._log), "their objects count as missed")
        columns = self._columns()
        self._values[:] = np.nan
        for label, objects in enumerate(self._objects):
            if objects:
                rows = np.flatnonzero(columns["labels"] == label)
                rows = rows[np.argsort(-columns["scores"][rows], kind="stable")]
                answers = Answers(*(columns[name][rows] for name in ("overlap", "target", "difficult")))
                found = [average_precision(answers, objects, threshold) for threshold in THRESHOLDS]
                self._values[label] = np.array(found).T
        there = self._values[~np.isnan(self._values[:, 0, 0])]
        return {
            section: dict(zip(METRICS, _summary(values), strict=True))
            for section, values in zip(SECTIONS, there.transpose(1, 0, 2), strict=True)
        }

    def _columns(self) -> dict[str, NDArray[Any]]:
        """Those of all images, objects counted through all of them."""
        names = ("scores", "labels", "overlap", "target", "difficult")
        parts: dict[str, list[NDArray[Any]]] = {name: [np.zeros(0)] for name in names}
        first = 0
        for image_id, record in self._log.items():
            record["target"] = record["target"] + first
            first += len(self._truth[image_id])
            for name in names:
                parts[name].append(record[name])
        columns = {name: np.concatenate(part) for name, part in parts.items()}
        return columns | {"target": columns["target"].astype(np.int64), "difficult": columns["difficult"] > 0}

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        names = [f"{metric} ({section[3:]})" for section in SECTIONS for metric in METRICS]
        rows = []
        for name, objects, values in zip(self._names, self._objects, self._values, strict=True):
            cells = [percent(value) for section in values for value in _summary(section[None])]
            rows.append((name, str(objects), *cells))
        table: Table = ("VOC's AP of boxes (%)", ("class", "objects", *names), rows)
        lacking = [name for name, objects in zip(self._names, self._objects, strict=True) if not objects]
        return [table, *undefined_table(((name, "no object that is not difficult") for name in lacking), "class")]

    def reasons(self) -> Mapping[str, Mapping[str, str]]:
        return {section: dict.fromkeys(METRICS, "no class has an object that is not difficult") for section in SECTIONS}

    def save(self, folder: Path) -> None:
        """Write `voc_per_class.json`, and into `voc_results/` what the devkit reads: for each class a text
        `comp4_det_test_CLASS.txt` with a line for each detection: image, score, xmin, ymin, xmax, ymax, counted from 1.
        Rotated boxes are in `Task1_CLASS.txt`, as DOTA's server takes them: image, score, x and y of four corners."""
        folder.mkdir(parents=True, exist_ok=True)
        values = {
            section: {
                name: dict(zip(METRICS, _summary(each[None]), strict=True))
                for name, each in zip(self._names, self._values[:, position], strict=True)
            }
            for position, section in enumerate(SECTIONS)
        }
        write_whole(folder / "voc_per_class.json", msgspec.json.encode(values).decode())
        out = folder / "voc_results"
        out.mkdir(exist_ok=True)
        start = "Task1" if self._rotated else "comp4_det_test"
        paths = [out / f"{start}_{name.replace('/', '-')}.txt" for name in self._names]
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("w", encoding="utf-8")) for path in paths]
            for image_id, record in self._log.items():
                boxes = record["boxes"]
                numbers = corners(boxes).reshape(-1, 8) if self._rotated else boxes + _FROM_ONE
                for label, score, row in zip(record["labels"], record["scores"], numbers, strict=True):
                    files[label].write(f"{image_id} {score:.6f} {' '.join(f'{value:.2f}' for value in row)}\n")


class _Objects:
    """The objects (G) of an image.

    Args:
        rows: the label of each, whether it is difficult, its box in COCO's form.
        rotated: whether boxes are.
    """

    def __init__(self, rows: Sequence[tuple[int, bool, list[float]]], *, rotated: bool) -> None:
        self._labels = np.array([row[0] for row in rows], np.int64)
        self._difficult = np.array([row[1] for row in rows], bool)
        self._rotated = rotated
        self._boxes = np.array([row[2] for row in rows], np.float64).reshape(-1, 5 if rotated else 4)
        if not rotated:
            self._boxes[:, 2:] += self._boxes[:, :2]

    def __len__(self) -> int:
        return len(self._labels)

    def nearest(
        self, boxes: NDArray[np.float64], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
        """For each detection (D) the greatest overlap with an object of its class, which one that is, and whether it is
        difficult."""
        if not len(self) or not len(boxes):
            return np.zeros(len(boxes)), np.zeros(len(boxes), np.int64), np.zeros(len(boxes), bool)
        if self._rotated:
            overlaps = rotated_iou(torch.from_numpy(boxes), torch.from_numpy(self._boxes)).numpy()
        else:
            overlaps = _overlaps(boxes, self._boxes)
        overlaps = np.where(labels[:, None] == self._labels, overlaps, -1.0)
        target = overlaps.argmax(axis=1)
        return overlaps.max(axis=1).clip(min=0), target, self._difficult[target]


def _overlaps(found: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU (D, G) as the devkit computes it, of first and last pixels, which are counted from 1: that is the same as
    without, but for the last bits, which decide where an overlap is as large as the threshold."""
    a, b = found[:, None] + _FROM_ONE, truth + _FROM_ONE
    size = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1, 0)
    shared = size.prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2] + 1).prod(axis=-1) for box in (a, b)]
    union: NDArray[np.float64] = areas[0] + areas[1] - shared
    return shared / np.maximum(union, np.finfo(np.float64).eps)


def _summary(values: NDArray[np.float64]) -> list[float | None]:
    """`METRICS` of classes (C, thresholds) that all have objects."""
    if not len(values) or np.isnan(values).any():
        return [None] * len(METRICS)
    place = {threshold: index for index, threshold in enumerate(THRESHOLDS.tolist())}
    return [float(values.mean()), float(values[:, place[0.5]].mean()), float(values[:, place[0.75]].mean())]
