"""COCO's rules for any measure of overlap: which detection finds which object, and precision and recall from that.

For what no library evaluates, such as rotated boxes and the boundaries of masks. NumPy in float64, no loop over pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""The overlaps from which on an object counts as found."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""The recalls at which precision is taken."""


@dataclass(frozen=True)
class Curves:
    """Precision and recall of K classes, objects of A ranges of sizes, T thresholds; -1 where there is no object.

    Args:
        precision: (T, R, K, A) at `RECALLS`, with the largest of the limits.
        recall: (T, K, A, M) with each of M limits of detections for an image and class.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def match(
    overlaps: NDArray[np.float64],
    ignored: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    thresholds: NDArray[np.float64] = THRESHOLDS,
) -> NDArray[np.int64]:
    """The object (..., T, D) that each detection finds, or -1, at each threshold.

    One detection after the other takes the object that it overlaps most, the last of several, among those that are
    left and overlap at least as much as the threshold says; one that is ignored only if there is no other. A crowd can
    be taken again and again.

    Args:
        overlaps: (..., D, G) of detections, best score first, with objects; below 0 for pairs that cannot match, such
            as those of two classes, or where there is padding.
        ignored: (..., G) objects that need not be found.
        crowd: (..., G) objects that stand for several.
        thresholds: (T,), above 0.
    """
    *lead, detections, objects = np.broadcast_shapes(overlaps.shape, (*ignored.shape[:-1], 1, ignored.shape[-1]))
    least = np.minimum(thresholds, 1 - 1e-10)[:, None]
    found = np.full((*lead, len(thresholds), detections), -1)
    left = np.ones((*lead, len(thresholds), objects), bool)
    ignored, crowd = ignored[..., None, :], crowd[..., None, :]
    places = np.arange(objects)
    for row in range(detections if objects else 0):
        overlap = overlaps[..., None, row, :]
        enough = (overlap >= least) & left
        regular = enough & ~ignored
        candidates = np.where(regular.any(axis=-1, keepdims=True), regular, enough)
        best = objects - 1 - np.where(candidates, overlap, -1)[..., ::-1].argmax(axis=-1)
        found[..., row] = np.where(candidates.any(axis=-1), best, -1)
        left &= (places != found[..., row, None]) | crowd
    return found


class Matches:
    """Which detections were right, gathered image by image (ids rising, as ties of scores are in that order); then
    precision and recall.

    Args:
        ranges: (A, 2) least and greatest size of objects, both included.
        limits: so many of the best detections of an image and class count, rising.
    """

    def __init__(self, ranges: Sequence[Sequence[float]], limits: Sequence[int]) -> None:
        self._ranges = np.asarray(ranges, np.float64)
        self._limits = tuple(limits)
        self._detections: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int8]]] = []
        self._objects: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []

    def add(
        self,
        overlaps: NDArray[np.float64],
        *,
        labels: NDArray[np.int64],
        scores: NDArray[np.float64],
        areas: NDArray[np.float64],
        object_labels: NDArray[np.int64],
        object_areas: NDArray[np.float64],
        ignored: NDArray[np.bool_],
        crowd: NDArray[np.bool_],
        pardoned: NDArray[np.bool_] | None = None,
    ) -> None:
        """Match the D detections and G objects of an image.

        Args:
            overlaps: (D, G) of all pairs, whatever their classes.
            labels, scores, areas: (D,) of the detections, in any order.
            object_labels, object_areas: (G,) of the objects.
            ignored, crowd: (G,) see `match`; objects whose area is out of range are ignored too.
            pardoned: (D,) detections that are not wrong when they find nothing.
        """
        order = np.argsort(-scores, kind="stable")
        ranks = _ranks(labels[order])
        order, ranks = order[ranks < self._limits[-1]], ranks[ranks < self._limits[-1]]
        labels, scores, areas = labels[order], scores[order], areas[order]
        unmatched_aside = self._outside(areas)  # (A, D)
        if pardoned is not None:
            unmatched_aside |= pardoned[order]
        aside = ignored | self._outside(object_areas)  # (A, G)
        pairs = np.where(labels[:, None] == object_labels, overlaps[order], -1.0)
        close = (pairs >= THRESHOLDS[0]).any(axis=1)  # others find nothing, and most are others
        found = np.full((len(aside), len(THRESHOLDS), len(order)), -1)
        found[..., close] = match(pairs[close], aside, crowd)
        hit = found >= 0
        beside = np.take_along_axis(aside[:, None], found, axis=2) if aside.shape[1] else np.zeros_like(hit)
        counts_not = np.where(hit, beside, unmatched_aside[:, None])
        self._detections.append((labels, scores, ranks, np.where(counts_not, _NOT_COUNTED, hit).astype(np.int8)))
        self._objects.append((object_labels, aside))

    def _outside(self, areas: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(A, N): whether areas (N,) are out of each range."""
        return (areas < self._ranges[:, :1]) | (areas > self._ranges[:, 1:])

    def curves(self, classes: int) -> Curves:
        """Precision and recall of all images that were added."""
        ranges, limits, steps = len(self._ranges), len(self._limits), len(THRESHOLDS)
        precision = np.full((steps, len(RECALLS), classes, ranges), -1.0)
        recall = np.full((steps, classes, ranges, limits), -1.0)
        if not self._detections:
            return Curves(precision, recall)
        labels, scores, ranks, hits = (np.concatenate(parts, axis=-1) for parts in zip(*self._detections, strict=True))
        object_labels, aside = (np.concatenate(parts, axis=-1) for parts in zip(*self._objects, strict=True))
        wanted = np.stack([np.bincount(object_labels[~row], minlength=classes) for row in aside], axis=1)  # (K, A)
        order = np.lexsort((-scores, labels))  # stable
        starts = np.searchsorted(labels[order], np.arange(classes + 1))
        for label in np.flatnonzero(wanted.any(axis=1)):
            there = wanted[label] > 0
            rows = order[starts[label] : starts[label + 1]]
            hit = hits[:, :, rows][there]
            for column, limit in enumerate(self._limits):
                recall[:, label, there, column] = ((hit == 1) & (ranks[rows] < limit)).sum(axis=2).T / wanted[
                    label, there
                ]
            precision[:, :, label, there] = _precision(hit, wanted[label, there]).transpose(1, 2, 0)
        return Curves(precision, recall)


_NOT_COUNTED = -1  # of detections: neither right (1) nor wrong (0)


def _ranks(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,): how many of the entries before each have its label."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return ranks


def _precision(hits: NDArray[np.int8], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    """(A, T, R): the best precision at each recall or beyond it, 0 beyond the greatest, of detections (A, T, N), best
    score first, and numbers of objects (A,)."""
    right, wrong = (hits == 1).cumsum(axis=2), (hits == 0).cumsum(axis=2)
    recall = right / wanted[:, None, None]
    precision = right / (wrong + right + np.spacing(1))
    precision = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    precision = np.concatenate((precision, np.zeros((*precision.shape[:2], 1))), axis=2)
    places = [[np.searchsorted(row, RECALLS) for row in rows] for rows in recall]
    return np.take_along_axis(precision, np.array(places), axis=2)
