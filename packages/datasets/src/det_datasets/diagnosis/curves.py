"""Precision, recall and F1 along the scores of detections; average precision; calibration. NumPy in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Ranking:
    """What detections with at least so large a score are, for each of N different scores, falling.

    Args:
        scores: (N,).
        precision, recall, f1: (N,).
    """

    scores: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]

    def best(self) -> int | None:
        """The place of the greatest F1, of equal ones that of the greatest score; None if no detection is right."""
        if not len(self.f1) or not self.f1.max() > 0:
            return None
        return int(self.f1.argmax())

    def at(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """The place of what detections with at least these scores (S,) are; -1 if there are none."""
        return np.searchsorted(-self.scores, -scores, side="right") - 1


def ranking(scores: NDArray[np.float64], right: NDArray[np.bool_], objects: int) -> Ranking:
    """Of D detections, whether they are right, and so many objects, at least one."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], right[order].cumsum()
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]  # detections of one score come together
    scores, hits, answers = scores[last], hits[last], np.arange(1, len(order) + 1)[last]
    return Ranking(scores, hits / answers, hits / objects, 2 * hits / (answers + objects))


def precision_at_recalls(right: NDArray[np.bool_], objects: int) -> NDArray[np.float64]:
    """COCO's precision (101,): the best at each recall or beyond it, 0 beyond the greatest; of detections, best score
    first."""
    hits = right.cumsum()
    precision = hits / np.arange(1, len(right) + 1)
    precision = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return precision[np.searchsorted(hits / objects, RECALLS)]


def precisions_by_class(
    scores: NDArray[np.float64], labels: NDArray[np.int64], right: NDArray[np.bool_], objects: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(K, 101) of K classes with so many objects each, NaN of those with none. Its mean is average precision."""
    order = np.lexsort((-scores, labels))  # stable
    starts = np.searchsorted(labels[order], np.arange(len(objects) + 1))
    ordered = right[order]
    found = np.full((len(objects), len(RECALLS)), np.nan)
    for label in np.flatnonzero(objects):
        found[label] = precision_at_recalls(ordered[starts[label] : starts[label + 1]], int(objects[label]))
    return found


def mean_of_defined(values: NDArray[np.float64]) -> float | None:
    """Of numbers of which some are NaN; None if all are."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


@dataclass(frozen=True)
class Calibration:
    """Detections in B bins of equal width by score.

    Args:
        counts: (B,).
        scores: (B,) their mean; NaN where there is none.
        precision: (B,) the share that is right.
        quality: (B,) the mean overlap with what they find, 0 of wrong ones: precision times the overlap of right ones.
        error: D-ECE, the mean over detections of how far precision is from score in their bin; None without detections.
        localisation_errors: (K,) LaECE of each class, the same of quality instead of precision; NaN without detections.
    """

    counts: NDArray[np.int64]
    scores: NDArray[np.float64]
    precision: NDArray[np.float64]
    quality: NDArray[np.float64]
    error: float | None
    localisation_errors: NDArray[np.float64]


def calibration(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    overlaps: NDArray[np.float64],
    right: NDArray[np.bool_],
    *,
    classes: int,
    bins: int,
) -> Calibration:
    """Of scores (D,) from 0 to 1; those on the border of two bins are in the upper one. `overlaps` (D,) are those of
    detections that are right with their objects."""
    scores, overlaps = scores.clip(0, 1), np.where(right, overlaps, 0.0)
    places = labels * bins + np.minimum((scores * bins).astype(np.int64), bins - 1)

    def sums(weights: NDArray[Any] | None) -> NDArray[Any]:
        return np.bincount(places, weights, minlength=classes * bins).reshape(classes, bins)

    counts, given, hits, quality = sums(None), sums(scores), sums(right.astype(np.float64)), sums(overlaps)
    total, of_class = counts.sum(axis=0), counts.sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0
        score, precision, found = (each.sum(axis=0) / total for each in (given, hits, quality))
        localisation_errors = np.abs(given - quality).sum(axis=1) / of_class
    gaps = np.abs(given.sum(axis=0) - hits.sum(axis=0))
    error = float(gaps.sum() / len(scores)) if len(scores) else None
    return Calibration(total, score, precision, found, error, localisation_errors)
