"""All numbers of a diagnosis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from det_datasets.diagnosis.curves import (
    Calibration,
    Ranking,
    calibration,
    mean_of_defined,
    precisions_by_class,
    ranking,
)
from det_datasets.diagnosis.detections import (
    Detections,
    badness,
    confusion,
    error_counts,
    found_scores,
    lost_precision,
)
from det_datasets.diagnosis.objects import CROWDING, SIZES, Objects

NO_OBJECTS = "the dataset has no object that counts"
NONE_RIGHT = "no detection is right"
NO_DETECTIONS = "there is no detection"
NO_CLASS = "no class that has objects has a detection"


@dataclass(frozen=True)
class Group:
    """Objects that have something in common.

    Args:
        key: for names of metrics.
        name: for people.
        objects: how many there are.
        found: how many of them detections with at least the best threshold find.
        reachable: how many are found by detections of any score.
    """

    key: str
    name: str
    objects: int
    found: int
    reachable: int

    @property
    def recall(self) -> float | None:
        """The share that is found; None if there is none."""
        return self.found / self.objects if self.objects else None


@dataclass(frozen=True)
class OfClass:
    """The numbers of one class, at its own best threshold.

    Args:
        objects: how many there are.
        threshold, precision, recall, f1: None where they are undefined.
        ap: average precision.
        localisation_error: LaECE.
    """

    objects: int
    threshold: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    ap: float | None
    localisation_error: float | None


@dataclass(frozen=True)
class Summary:
    """What `summarise` finds.

    Args:
        metrics: name -> value and, if that is None, why.
        iou: the overlap from which on an object is found.
        precisions: overlap -> (K, 101) precision of classes, NaN without objects.
        ranking: of all classes together; None without objects.
        confidence: the least score of detections in `confusion`, `errors` and `worst`.
        classes: (K,).
        confusion: (K + 1, K + 1).
        errors: kind -> count, and by how much AP would be greater without.
        sizes, crowding, marks: groups of objects; `aside`, those that need not be found.
        calibration: of all detections that count.
        worst: places of images, most wrong first.
    """

    metrics: Mapping[str, tuple[float | None, str]]
    iou: float
    precisions: Mapping[float, NDArray[np.float64]]
    ranking: Ranking | None
    confidence: float
    classes: list[OfClass]
    confusion: NDArray[np.int64]
    errors: Mapping[str, tuple[int, float | None]]
    sizes: list[Group]
    crowding: list[Group]
    marks: list[Group]
    aside: list[Group]
    calibration: Calibration
    worst: list[int]


def summarise(
    records: Iterable[tuple[Any, Mapping[str, Any]]],
    objects: Objects,
    classes: int,
    ious: NDArray[np.float64],
    *,
    confidence: float | None,
    bins: int,
    worst: int,
) -> Summary:
    """All numbers; arguments as those of `DiagnosisEvaluator`."""
    found = Detections.gather(records, objects, len(ious))
    regular, counted = ~objects.ignored, found.counted[:, 0]
    wanted = np.bincount(objects.labels[regular], minlength=classes)
    right = found.right()
    whole = ranking(found.scores[counted], right[counted], int(wanted.sum())) if wanted.any() else None
    best = None if whole is None else whole.best()
    threshold = None if whole is None or best is None else float(whole.scores[best])
    least = -np.inf if threshold is None else threshold
    used = -np.inf if confidence is None and threshold is None else float(least if confidence is None else confidence)
    precisions = {
        float(iou): precisions_by_class(
            found.scores[found.counted[:, place]],
            found.labels[found.counted[:, place]],
            found.right(place)[found.counted[:, place]],
            wanted,
        )
        for place, iou in enumerate(ious)
    }
    scores = found_scores(found.found[:, 0], found.scores, len(objects))

    def group(key: str, name: str, members: NDArray[np.bool_]) -> Group:
        mine = scores[members]
        reached = mine > -np.inf
        return Group(key, name, len(mine), int((reached & (mine >= least)).sum()), int(reached.sum()))

    sizes = [group(key, name, regular & (objects.size == place)) for place, (key, name) in enumerate(SIZES.items())]
    crowding = [
        group(key, name, regular & (objects.crowding == place)) for place, (key, name) in enumerate(CROWDING.items())
    ]
    marks = [group(name, f"marked as {name}", regular & marked) for name, marked in objects.marks.items()]
    aside = [
        group("difficult", "difficult (need not be found)", objects.difficult & ~objects.crowd),
        group("crowd", "crowds (need not be found)", objects.crowd),
    ]
    calibrated = calibration(
        found.scores[counted],
        found.labels[counted],
        found.overlap[counted],
        right[counted],
        classes=classes,
        bins=bins,
    )
    localisation_errors = np.where(wanted > 0, calibrated.localisation_errors, np.nan)
    answers = counted & (found.scores >= least)
    hits, tried, there = int((right & answers).sum()), int(answers.sum()), int(wanted.sum())
    ap = f"AP{round(100 * ious[0])}"
    images = len(objects.image_ids)
    metrics: dict[str, tuple[float | None, str]] = {
        "precision": (hits / tried if tried else None, NO_DETECTIONS),
        "recall": (hits / there if there else None, NO_OBJECTS),
        "F1": (2 * hits / (tried + there) if there else None, NO_OBJECTS),
        "threshold": (threshold, NONE_RIGHT if there else NO_OBJECTS),
        "false_positives": ((tried - hits) / images if images else None, "the dataset has no image"),
        ap: (mean_of_defined(precisions[float(ious[0])].mean(axis=1)), NO_OBJECTS),
    }
    for place, (key, name) in enumerate(SIZES.items()):
        mean = _precision_of_size(found, objects, classes, place)
        metrics[f"{ap}_{key}"] = mean, f"the dataset has no object that is {name}"
    for each in (*sizes, *crowding, *marks):
        metrics[f"recall_{each.key}"] = each.recall, f"the dataset has no object that is {each.name}"
    metrics["D-ECE"] = calibrated.error, NO_DETECTIONS
    metrics["LaECE"] = mean_of_defined(localisation_errors), NO_CLASS
    lost = lost_precision(found, objects, wanted)
    wrong = badness(found, objects, used)
    order = np.argsort(-wrong, kind="stable")[:worst]
    return Summary(
        metrics=metrics,
        iou=float(ious[0]),
        precisions=precisions,
        ranking=whole,
        confidence=used,
        classes=_classes(found, wanted, precisions[float(ious[0])], localisation_errors),
        confusion=confusion(found, objects, classes, used),
        errors={name: (count, lost[name]) for name, count in error_counts(found, objects, used).items()},
        sizes=sizes,
        crowding=crowding,
        marks=marks,
        aside=[each for each in aside if each.objects],
        calibration=calibrated,
        worst=[int(place) for place in order if wrong[place] > 0],
    )


def _classes(
    found: Detections,
    wanted: NDArray[np.int64],
    precisions: NDArray[np.float64],
    localisation_errors: NDArray[np.float64],
) -> list[OfClass]:
    counted, right = found.counted[:, 0], found.right()
    order = np.argsort(found.labels, kind="stable")
    order = order[counted[order]]
    starts = np.searchsorted(found.labels[order], np.arange(len(wanted) + 1))
    classes = []
    for label, objects in enumerate(wanted.tolist()):
        if not objects:
            classes.append(OfClass(0, None, None, None, None, None, None))
            continue
        rows = order[starts[label] : starts[label + 1]]
        ranked, ap = ranking(found.scores[rows], right[rows], objects), float(precisions[label].mean())
        best, error = ranked.best(), float(localisation_errors[label]) if len(rows) else None
        if best is None:
            classes.append(OfClass(objects, None, 0.0 if len(rows) else None, 0.0, 0.0, ap, error))
        else:
            threshold, precision, recall, f1 = (
                float(values[best]) for values in (ranked.scores, ranked.precision, ranked.recall, ranked.f1)
            )
            classes.append(OfClass(objects, threshold, precision, recall, f1, ap, error))
    return classes


def _precision_of_size(found: Detections, objects: Objects, classes: int, size: int) -> float | None:
    """AP of the objects of one size: detections that find others do not count, those that find nothing do if their own
    size is that."""
    mine = ~objects.ignored & (objects.size == size)
    target = found.found[:, 0]
    own_size = np.digitize(found.areas, (32.0**2, 96.0**2)) == size
    used = found.counted[:, 0] & np.where(target >= 0, np.append(mine, False)[target], own_size)
    wanted = np.bincount(objects.labels[mine], minlength=classes)
    values = precisions_by_class(found.scores[used], found.labels[used], target[used] >= 0, wanted)
    return mean_of_defined(values.mean(axis=1))
