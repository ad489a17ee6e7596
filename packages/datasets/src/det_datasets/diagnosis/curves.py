"""Precision, recall and F1 along the scores of detections; average precision; calibration. NumPy in float64."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    counts: NDArray[np.int64]
    scores: NDArray[np.float64]
    precision: NDArray[np.float64]

    @property
    def error(self) -> float | None:
        """The expected calibration error: the mean over detections of how far precision is from score in their bin."""
        total = int(self.counts.sum())
        gaps = np.nan_to_num(np.abs(self.precision - self.scores))
        return float((gaps * self.counts).sum() / total) if total else None


def calibration(scores: NDArray[np.float64], right: NDArray[np.bool_], bins: int) -> Calibration:
    """Of scores (D,) from 0 to 1; those on the border of two bins are in the upper one."""
    scores = scores.clip(0, 1)
    bin_of = np.minimum((scores * bins).astype(np.int64), bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_score = np.bincount(bin_of, scores, minlength=bins) / counts
        precision = np.bincount(bin_of, right.astype(np.float64), minlength=bins) / counts
    return Calibration(counts, mean_score, precision)
