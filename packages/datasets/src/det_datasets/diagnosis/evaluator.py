"""What a detector gets wrong: the evaluator "diagnosis"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from det_datasets.diagnosis import figures
from det_datasets.diagnosis.objects import Objects, areas_of
from det_datasets.diagnosis.outcomes import outcomes, overlaps
from det_datasets.diagnosis.pictures import MOST, codes_of, shapes_of, worst_images
from det_datasets.diagnosis.summary import Summary, summarise
from det_datasets.evaluating import checked_id, checked_labels, coco_truth, warn_of_missing
from detkit.atomic import write_whole
from detkit.interfaces import Dataset, Evaluator
from detkit.report.figures import Figure
from detkit.results import ResultLog, State
from detkit.structures.prediction import Prediction

STRICT = 0.75
"""A second overlap, at which there is a curve of precision and recall."""


class DiagnosisEvaluator(Evaluator):
    """What a detector finds and what it gets wrong, for reports: precision, recall and F1 at the best threshold of
    scores, a confusion matrix, kinds of errors, objects by size and crowding, calibration.

    Detections are matched with objects of their class by COCO's rule at one overlap, best score first; crowds and
    difficult objects need not be found and are not wrong, nor are detections of which LVIS does not know whether they
    are. All detections of an image count. Section "diagnosis", of the detections of all classes together:

    - `precision`, `recall`, `F1` of those with at least the score `threshold`, which is the one where F1 is greatest;
      `false_positives`, how many of these are wrong, for each image;
    - `AP50` (of an `iou` of 0.5), the mean of classes: the area below the curve of precision and recall, at COCO's 101
      recalls;
    - `recall_s`, `recall_m`, `recall_l`: of objects by size (COCO's; below 32 x 32 pixels, 96 x 96, larger), and
      `AP50_s`, ... for which detections that find nothing count in the size of their box;
    - `recall_apart`, `recall_overlapped`, `recall_crowded`: by how much of an object's box is inside the box of the
      other object that covers it most: at most a tenth, at most half, more. Where annotations say `occluded` or
      `truncated`, also `recall_occluded`, `recall_truncated`;
    - `D-ECE`, the expected calibration error of detections (Küppers et al., 2020, of scores alone): how far the share
      of right ones is from the score, in bins of scores; and `LaECE` (Oksuz et al., 2023), in which a right one counts
      as much as it overlaps its object, of each class by itself, on average over those that have objects and
      detections. All detections that count, whatever their scores; 0 is best.

    Values are None where they are undefined (`reasons` says why). Errors are those of Bolya et al., 2020 (TIDE), among
    the detections with at least the score `threshold`: of a class's own object with too little overlap (localisation);
    of an object of another class (classification); of an object that is found already (duplicate); where there is
    nothing (background); of another class and with too little overlap (both); and objects that are missed. The
    confusion matrix matches without regard to classes.

    Args:
        iou: the overlap from which on an object counts as found.
        compare: "boxes", or "masks".
        confidence: the confusion matrix, errors and images are of detections with at least this score; by default the
            best threshold.
        bins: of scores, for calibration; 25 in the literature.
        worst: how many of the images with most errors a report shows.

    Raises:
        ValueError: arguments that cannot be.
    """

    title: ClassVar[str] = "Diagnosis"

    def __init__(
        self,
        *,
        iou: float = 0.5,
        compare: Literal["boxes", "masks"] = "boxes",
        confidence: float | None = None,
        bins: int = 25,
        worst: int = 12,
    ) -> None:
        if not 0.1 < iou <= 1:
            raise ValueError(f"iou is {iou}; a number above 0.1, where background begins, and up to 1 is needed")
        if compare not in ("boxes", "masks"):
            raise ValueError(f"compare is {compare!r}; there are 'boxes' and 'masks'")
        if confidence is not None and not 0 <= confidence <= 1:
            raise ValueError(f"confidence is {confidence}; a score from 0 to 1 is needed")
        if bins < 1 or worst < 0:
            raise ValueError(f"bins is {bins} and worst {worst}; at least 1 and 0 are needed")
        self._ious = np.unique((iou, STRICT))[:: 1 if iou <= STRICT else -1].astype(np.float64)  # that of errors first
        self._masks = compare == "masks"
        self._confidence, self._bins, self._worst = confidence, bins, worst
        self._log = ResultLog()

    def start(self, dataset: Dataset) -> None:
        truth = coco_truth(dataset, "diagnosis")
        self._dataset = dataset
        self._objects = Objects(truth, dataset.categories, masks=self._masks)
        labels = dataset.categories.label_of_id
        self._known = {
            entry["id"]: (
                np.array([labels(id) for id in entry["neg_category_ids"]], np.int64),
                np.array([labels(id) for id in entry.get("not_exhaustive_category_ids", ())], np.int64),
            )
            for entry in truth["images"]
            if "neg_category_ids" in entry
        }
        self._log = ResultLog()
        self._summary: Summary | None = None

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        image_id = checked_id(info, self._objects.counts)
        if "labels" not in prediction or (self._masks and "masks" not in prediction):
            what = "labels" if "labels" not in prediction else "masks"
            raise ValueError(f"the model answers no {what}, which the evaluator 'diagnosis' compares; leave it out")
        labels = checked_labels(prediction, image_id, len(self._dataset.categories))
        scores = prediction.scores.numpy(force=True).astype(np.float64)
        boxes = prediction.boxes.numpy(force=True).astype(np.float64)
        truth = self._objects.of_image(image_id)
        if boxes.shape[1] != truth.boxes.shape[1] and len(truth.boxes) and not self._masks:
            kinds = {4: "upright", 5: "rotated"}
            raise ValueError(
                f"the model answers {kinds[boxes.shape[1]]} boxes, and the dataset has {kinds[truth.boxes.shape[1]]} "
                "ones; leave out the evaluator 'diagnosis'"
            )
        order = np.argsort(-scores, kind="stable")
        pardoned = np.zeros(len(order), bool)
        if image_id in self._known:
            absent, incomplete = self._known[image_id]
            order = order[np.isin(labels[order], np.concatenate((absent, truth.labels)))]
            pardoned = np.isin(labels[order], incomplete)
        pairs = overlaps(boxes[order], codes_of(prediction, order) if self._masks else None, truth)
        record = {
            "boxes": boxes[order].astype(np.float32),
            "scores": scores[order].astype(np.float32),
            "labels": labels[order].astype(np.int32),
            "areas": areas_of(boxes[order]).astype(np.float32),
            **outcomes(pairs, labels[order], truth, self._ious, pardoned),
            **(shapes_of(prediction, order[:MOST]) if self._worst else {}),
        }
        self._log.append(image_id, record)

    def state(self) -> State:
        return self._log.state()

    def merge(self, states: Iterable[State]) -> None:
        self._log.merge(states)

    def compute(self) -> dict[str, dict[str, Any]]:
        warn_of_missing(len(self._objects.image_ids), len(self._log), "their objects count as missed")
        self._summary = summarise(
            self._log.items(),
            self._objects,
            len(self._dataset.categories),
            self._ious,
            confidence=self._confidence,
            bins=self._bins,
            worst=self._worst,
        )
        return {"diagnosis": {name: value for name, (value, _) in self._summary.metrics.items()}}

    def reasons(self) -> Mapping[str, Mapping[str, str]]:
        return {"diagnosis": {name: why for name, (value, why) in self._computed().metrics.items() if value is None}}

    def _computed(self) -> Summary:
        if self._summary is None:
            self.compute()
        assert self._summary is not None
        return self._summary

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        return figures.tables(self._computed())

    def figures(self) -> Sequence[Figure]:
        found, names = self._computed(), self._dataset.categories.names
        pictures = worst_images(found, self._log, self._objects, self._dataset)
        return (*figures.drawings(found, names), *([pictures] if pictures.pictures else []))

    def save(self, folder: Path) -> None:
        """Write `diagnosis.json`: metrics with reasons, classes, errors, confusion, groups of objects, calibration."""
        data = figures.plain(self._computed(), self._dataset.categories.names)
        write_whole(folder / "diagnosis.json", msgspec.json.format(msgspec.json.encode(data), indent=1).decode())
