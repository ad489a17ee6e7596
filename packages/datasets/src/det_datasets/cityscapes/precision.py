"""Average precision of instances as Cityscapes defines it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OVERLAPS = np.arange(0.5, 1.0, 0.05)
SMALLEST = 100
"""Pixels: smaller objects are neither asked for nor is it wrong to find them."""


@dataclass
class Found:
    """The masks of one class that a model answers, P in all: scores (P,); overlap (P,), the largest intersection over
    union with an object or group of the class; target (P,), which object that is, -1 for one that is not asked for or
    none; ignored (P,), the share of the mask where it is not wrong to answer."""

    scores: NDArray[np.float64]
    overlap: NDArray[np.float64]
    target: NDArray[np.int64]
    ignored: NDArray[np.float64]


def average_precision(found: Found, objects: int) -> NDArray[np.float64]:
    """AP at each of OVERLAPS of a class with so many objects that are asked for; nan if there are none."""
    if not objects:
        return np.full(len(OVERLAPS), np.nan)
    return np.array([_precision_at(found, objects, threshold) for threshold in OVERLAPS.tolist()])


def _precision_at(found: Found, objects: int, threshold: float) -> float:
    """Of the answers that fit an object the best is right and the others are wrong, whatever their order; answers that
    fit one that is not asked for do not count, nor those of which more than the threshold is ignored."""
    fits = found.overlap > threshold
    hits = np.flatnonzero(fits & (found.target >= 0))
    hits = hits[np.lexsort((-found.scores[hits], found.target[hits]))]
    _, best = np.unique(found.target[hits], return_index=True)
    right = np.zeros(len(hits), bool)
    right[best] = True
    wrong = found.scores[~fits & (found.ignored <= threshold)]
    scores = np.concatenate((found.scores[hits], wrong))
    truths = np.concatenate((right, np.zeros(len(wrong), bool)))
    if not len(scores):
        return 0.0
    order = np.argsort(scores)
    below = np.concatenate(([0], np.cumsum(truths[order])))  # right answers before each in this order
    _, first = np.unique(scores[order], return_index=True)
    hit = below[-1] - below[first]
    precision = np.append(hit / (len(scores) - first), 1.0)  # the last point, at recall 0, is nobody's
    recall = np.append(hit / objects, 0.0)
    # Each point counts for half of the way to its neighbours in recall; at the ends there is none.
    around = np.concatenate((recall[:1], recall, [0.0]))
    return float(precision @ (around[:-2] - around[2:]) / 2)
