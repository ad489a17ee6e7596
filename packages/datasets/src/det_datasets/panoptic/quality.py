"""Panoptic quality, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_UNIT = 1 << 53
"""Every float64 from 0.5 to 1 is a multiple of 2^-53: sums of such multiples are exact, in any order."""


@dataclass
class SegmentedImage:
    """The segments of one image: ids (H, W) of pixels, 0 where there is none, and of S segments the ids (S,), classes
    (S,), and which are crowds (S,) bool."""

    pixels: NDArray[np.int32]
    ids: NDArray[np.int64]
    classes: NDArray[np.int64]
    crowd: NDArray[np.bool_]


@dataclass
class Quality:
    """Counts from which panoptic quality is computed (Kirillov et al., Panoptic Segmentation, 2019), of C classes:
    `counts` (C, 3) int64 segments that were found, made up and missed, and `overlaps`, the exact sums of the
    intersections over union of those found, in units of 2^-53."""

    counts: NDArray[np.int64]
    overlaps: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, classes: int) -> Quality:
        """Nothing counted yet."""
        return cls(np.zeros((classes, 3), np.int64), [0] * classes)

    def add(self, truth: SegmentedImage, answer: SegmentedImage) -> None:
        """Count one image, as panopticapi does.

        An answer finds a segment of its class if their intersection over union is above one half; pixels without
        ground truth count for neither. Crowds cannot be found, and an answer is not wrong if more than half of it lies
        where there is no ground truth or in the crowd of its class (the last one, if an image has several).
        """
        shared = _intersections(truth, answer)  # (1 + S, 1 + A): the first row and column are pixels without segment
        true_areas, areas = shared[1:].sum(axis=1), shared.sum(axis=0)[1:]
        none, shared = shared[0, 1:], shared[1:, 1:]
        union = true_areas[:, None] + areas - shared - none
        overlap = shared / np.maximum(union, 1)
        same = (truth.classes[:, None] == answer.classes) & ~truth.crowd[:, None]
        rows, columns = np.nonzero(same & (overlap > 0.5))
        for label, value in zip(truth.classes[rows].tolist(), overlap[rows, columns].tolist(), strict=True):
            self.overlaps[label] += int(value * _UNIT)
        missed = ~truth.crowd
        missed[rows] = False
        ignored = none.copy()
        crowds = {label: row for row, label in enumerate(truth.classes.tolist()) if truth.crowd[row]}
        for label, row in crowds.items():
            ignored += np.where(answer.classes == label, shared[row], 0)
        wrong = ignored / np.maximum(areas, 1) <= 0.5
        wrong[columns] = False
        for column, found in enumerate((truth.classes[rows], answer.classes[wrong], truth.classes[missed])):
            self.counts[:, column] += np.bincount(found, minlength=len(self.counts))

    def join(self, other: Quality) -> None:
        """Count what another one has counted, too."""
        self.counts = self.counts + other.counts
        self.overlaps = [mine + its for mine, its in zip(self.overlaps, other.overlaps, strict=True)]

    def by_class(self) -> NDArray[np.float64]:
        """(C, 3): PQ, SQ and RQ of each class, nan for those that are neither annotated nor predicted. SQ is 0 where
        nothing was found."""
        found, made_up, missed = self.counts.T.astype(np.float64)
        overlaps = np.array([overlap / _UNIT for overlap in self.overlaps])
        with np.errstate(invalid="ignore"):
            size = found + made_up / 2 + missed / 2
            segmentation = np.where(size > 0, overlaps / np.maximum(found, 1), np.nan)
            return np.stack((overlaps / size, segmentation, found / size), axis=1)


def mean_quality(by_class: NDArray[np.float64], classes: Sequence[int]) -> list[float | None]:
    """PQ, SQ and RQ on average over those of some classes that have a value; None if none has."""
    values = by_class[list(classes)]
    values = values[~np.isnan(values[:, 0])]
    return values.mean(axis=0).tolist() if len(values) else [None, None, None]


def _intersections(truth: SegmentedImage, answer: SegmentedImage) -> NDArray[np.int64]:
    """(1 + S, 1 + A) pixels that segments share; in the first row those without true segment, in the first column those
    without answer."""
    columns = len(answer.ids) + 1
    pairs = _numbers(truth) * columns + _numbers(answer)
    return np.bincount(pairs.ravel(), minlength=(len(truth.ids) + 1) * columns).reshape(-1, columns)


def _numbers(image: SegmentedImage) -> NDArray[np.int64]:
    """(H, W): 1 + the position of the segment that a pixel belongs to, 0 if to none."""
    table = np.zeros(max(image.pixels.max(), image.ids.max(initial=0)) + 1, np.int64)  # few of its pages are touched
    table[image.ids] = np.arange(1, len(image.ids) + 1)
    return table[image.pixels]
