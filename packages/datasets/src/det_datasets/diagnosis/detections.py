"""All detections of a dataset as columns, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from det_datasets.diagnosis.curves import precisions_by_class
from det_datasets.diagnosis.objects import Objects
from det_datasets.diagnosis.outcomes import ERRORS, NOT_COUNTED, RIGHT

LOCALISATION, CLASSIFICATION = ERRORS.index("localisation") + 1, ERRORS.index("classification") + 1


@dataclass(frozen=True)
class Detections:
    """D detections, images in the order of their ids, best score of each first. Objects are places in `Objects`.

    Args:
        image: (D,) places of images.
        scores, labels, areas: (D,).
        found, counted: (D, T) as in `outcomes`.
        overlap, agnostic, agnostic_counted, kind, target: (D,) likewise.
    """

    image: NDArray[np.int64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    found: NDArray[np.int64]
    counted: NDArray[np.bool_]
    overlap: NDArray[np.float64]
    agnostic: NDArray[np.int64]
    agnostic_counted: NDArray[np.bool_]
    kind: NDArray[np.int64]
    target: NDArray[np.int64]

    @classmethod
    def gather(cls, records: Iterable[tuple[Any, Mapping[str, Any]]], objects: Objects, thresholds: int) -> Detections:
        """From the records of images, in the order of their ids."""
        names = ("scores", "labels", "areas", "overlap", "counted", "agnostic_counted", "kind")
        places = ("found", "agnostic", "target")
        columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("image", *names, *places)}
        number_of = {image_id: number for number, image_id in enumerate(objects.image_ids)}
        for image_id, record in records:
            columns["image"].append(np.full(len(record["scores"]), number_of[image_id]))
            for name in names:
                columns[name].append(record[name])
            first = objects.first(image_id)
            for name in places:
                columns[name].append(np.where(record[name] >= 0, record[name].astype(np.int64) + first, -1))
        types: dict[str, Any] = dict.fromkeys(("scores", "areas", "overlap"), np.float64)
        types |= dict.fromkeys(("counted", "agnostic_counted"), np.bool_)
        shapes = {"found": (0, thresholds), "counted": (0, thresholds)}
        return cls(
            **{
                name: np.concatenate([np.zeros(shapes.get(name, (0,)), types.get(name, np.int64)), *parts]).astype(
                    types.get(name, np.int64)
                )
                for name, parts in columns.items()
            }
        )

    def right(self, threshold: int = 0) -> NDArray[np.bool_]:
        """(D,): whether each finds an object of its class that counts, at one of the overlaps."""
        return self.counted[:, threshold] & (self.found[:, threshold] >= 0)


def found_scores(targets: NDArray[np.int64], scores: NDArray[np.float64], objects: int) -> NDArray[np.float64]:
    """(A,): the greatest score with which each object is found, -inf of those that are not."""
    best = np.full(objects, -np.inf)
    hit = targets >= 0
    np.maximum.at(best, targets[hit], scores[hit])
    return best


def confusion(found: Detections, objects: Objects, classes: int, least: float) -> NDArray[np.int64]:
    """Counts (classes + 1, classes + 1) of objects by what they are taken for, of detections with at least this score;
    the last column is of objects that are missed, the last row of detections where there is no object."""
    used = (found.scores >= least) & found.agnostic_counted
    there = found.agnostic[used] >= 0
    truth = np.where(there, np.append(objects.labels, classes)[found.agnostic[used]], classes)
    missed = ~objects.ignored
    missed[found.agnostic[used][there]] = False
    lost = objects.labels[missed]
    rows, columns = np.concatenate((truth, lost)), np.concatenate((found.labels[used], np.full(len(lost), classes)))
    size = classes + 1
    return np.bincount(rows * size + columns, minlength=size * size).reshape(size, size).astype(np.int64)


def error_counts(found: Detections, objects: Objects, least: float) -> dict[str, int]:
    """Kind of error -> how many there are among detections with at least this score; "missed" are objects that neither
    a detection finds nor one of kind localisation or classification was meant for."""
    used = found.scores >= least
    counts = np.bincount(found.kind[used & (found.kind > RIGHT)], minlength=len(ERRORS) + 1)
    return {
        **{name: int(counts[number]) for number, name in enumerate(ERRORS, start=1)},
        "missed": int(missed(found, objects, least).sum()),
    }


def missed(found: Detections, objects: Objects, least: float) -> NDArray[np.bool_]:
    """(A,): the objects that `error_counts` counts as missed."""
    used = found.scores >= least
    lost = ~objects.ignored
    for targets in (found.found[:, 0], found.target):
        lost[targets[used & (targets >= 0)]] = False
    return lost


def lost_precision(found: Detections, objects: Objects, wanted: NDArray[np.int64]) -> dict[str, float | None]:
    """Kind of error -> by how much average precision, the mean over classes, rises without it (dAP of Bolya et al.,
    2020), of all detections, whatever their scores.

    Without errors of localisation or classification the best detection that was meant for an object is right, if no
    other finds it, and the others are gone; without errors of another kind these detections are gone; without missed
    objects there are so many fewer.
    """
    counted = found.kind != NOT_COUNTED
    right = found.right()

    def precision(
        kept: NDArray[np.bool_], labels: NDArray[np.int64], hits: NDArray[np.bool_], there: NDArray[np.int64]
    ) -> float:
        each = precisions_by_class(found.scores[kept], labels[kept], hits[kept], there)
        return float(np.nanmean(each)) if there.any() else 0.0

    if not wanted.any():
        return dict.fromkeys((*ERRORS, "missed"))
    now = precision(counted, found.labels, right, wanted)
    free = ~objects.ignored
    free[found.found[right, 0]] = False
    lost: dict[str, float | None] = {}
    for number, name in enumerate(ERRORS, start=1):
        wrong = found.kind == number
        labels, hits = found.labels, right
        kept = counted & ~wrong
        if number in (LOCALISATION, CLASSIFICATION):
            rows = np.flatnonzero(wrong & np.append(free, False)[found.target])
            rows = rows[np.argsort(-found.scores[rows], kind="stable")]
            rows = rows[np.unique(found.target[rows], return_index=True)[1]]  # the best for each object
            labels, hits = labels.copy(), hits.copy()
            labels[rows] = objects.labels[found.target[rows]]
            hits[rows] = kept[rows] = True
        lost[name] = precision(kept, labels, hits, wanted) - now
    fewer = wanted - np.bincount(objects.labels[missed(found, objects, -np.inf)], minlength=len(wanted))
    lost["missed"] = precision(counted, found.labels, right, fewer) - now
    return lost


def badness(found: Detections, objects: Objects, least: float) -> NDArray[np.float64]:
    """(I,): how wrong the answer for each image is: the sum of the scores of wrong detections, of those with at least
    this score, and, for each object that none of them finds, of what the score of the best that does lacks to 1."""
    wrong = (found.kind > RIGHT) & (found.scores >= least)
    images = len(objects.image_ids)
    sums = np.bincount(found.image[wrong], found.scores[wrong], minlength=images).astype(np.float64)
    best = found_scores(found.found[:, 0], found.scores, len(objects))
    lost = ~objects.ignored & (best < least)
    return sums + np.bincount(objects.image[lost], 1 - best[lost].clip(0, 1), minlength=images)
