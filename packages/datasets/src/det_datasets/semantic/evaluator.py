"""Metrics of labelled pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from det_datasets.evaluating import Table, defined, percent, undefined_table, warn_of_missing
from detkit.atomic import write_whole
from detkit.interfaces import Dataset, Evaluator
from detkit.report.figures import Figure, Matrix
from detkit.structures.prediction import Prediction

METRICS = ("mIoU", "fwIoU", "mAcc", "pAcc")
_State = tuple[set[Any], NDArray[np.int64]]


class SemanticEvaluator(Evaluator):
    """Intersection over union and accuracy of pixels over the whole dataset, as Detectron2 defines them.

    Section "semantic": `mIoU`, the mean IoU of the classes that the ground truth holds; `fwIoU`, the same weighted by
    their pixels; `mAcc`, the mean share of their pixels that is found; `pAcc`, the share of all pixels that is right.
    From 0 to 1; None where no pixel is labelled, and such pixels count nowhere. Counts are int64, so that the order of
    images changes nothing.
    """

    title: ClassVar[str] = "Pixels"
    needs: ClassVar[Sequence[str]] = ("semantic",)

    def __init__(self) -> None:
        self._images: set[Any] = set()

    def start(self, dataset: Dataset) -> None:
        if dataset.semantic_categories is None:
            raise ValueError(
                "the dataset has no labels of pixels, which the evaluator 'semantic' compares with; leave it out, or "
                "give the data a folder of semantic maps"
            )
        self._dataset = dataset
        self._names = dataset.semantic_categories.names
        self._images = set()
        self._counts = np.zeros((len(self._names), len(self._names) + 1), np.int64)  # truth x answer, none last
        self._iou = self._accuracy = self._share = np.zeros(0)

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        if "semantic" not in prediction:
            raise ValueError("the model labels no pixels, which the evaluator 'semantic' measures; leave it out")
        classes = len(self._names)
        truth = self._dataset.semantic_map(info["image_id"]).numpy().astype(np.int64)
        answer = np.minimum(prediction.semantic.numpy(force=True), classes)
        labelled = truth < classes
        pairs = truth[labelled] * (classes + 1) + answer[labelled]
        self._counts += np.bincount(pairs, minlength=self._counts.size).reshape(self._counts.shape)
        self._images.add(info["image_id"])

    def state(self) -> _State:
        return self._images, self._counts

    def merge(self, states: Iterable[_State]) -> None:
        images, counts = set(), np.zeros_like(self._counts)
        for some, part in states:
            images |= some
            counts += part
        self._images, self._counts = images, counts

    def compute(self) -> dict[str, dict[str, Any]]:
        warn_of_missing(len(self._dataset), len(self._images), "their pixels count nowhere")
        right = self._counts.diagonal().astype(np.float64)
        truth, answer = self._counts.sum(axis=1), self._counts.sum(axis=0)[:-1]
        with np.errstate(invalid="ignore"):  # 0 / 0: classes that do not occur have no value
            self._share = truth / truth.sum()
            self._accuracy = right / truth
            self._iou = np.where(truth > 0, right / (truth + answer - right), np.nan)
        there = truth > 0
        if not there.any():
            return {"semantic": dict.fromkeys(METRICS)}
        values = (
            self._iou[there].mean(),
            (self._iou * self._share)[there].sum(),
            self._accuracy[there].mean(),
            right.sum() / truth.sum(),
        )
        return {"semantic": {name: float(value) for name, value in zip(METRICS, values, strict=True)}}

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        columns = (self._share, self._iou, self._accuracy)
        rows = [
            (name, *(percent(value) for value in values))
            for name, *values in zip(self._names, *(column.tolist() for column in columns), strict=True)
        ]
        table: Table = ("Pixels by class (%)", ("class", "of all", "IoU", "accuracy"), rows)
        lacking = [name for name, share in zip(self._names, self._share.tolist(), strict=True) if not share > 0]
        reasons = ((name, "the ground truth has no pixel of this class") for name in lacking)
        return [table, *undefined_table(reasons, "class")]

    def reasons(self) -> Mapping[str, Mapping[str, str]]:
        return {"semantic": dict.fromkeys(METRICS, "no pixel of the ground truth is labelled")}

    def figures(self) -> Sequence[Figure]:
        names = (*self._names, "(no class)")
        note = "Shares are of the pixels of the row's class."
        return (
            Matrix(
                "Confusion of pixels", self._names, names, self._counts, "labelled", "answered", len(self._names), note
            ),
        )

    def save(self, folder: Path) -> None:
        """Write `semantic_per_class.json`."""
        values = {
            name: {"IoU": defined(iou), "accuracy": defined(accuracy)}
            for name, iou, accuracy in zip(self._names, self._iou.tolist(), self._accuracy.tolist(), strict=True)
        }
        write_whole(folder / "semantic_per_class.json", msgspec.json.encode(values).decode())
