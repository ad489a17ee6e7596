"""Average precision as the PASCAL VOC devkit defines it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.arange(50, 100, 5) / 100


@dataclass
class Answers:
    """The detections of one class in all images, best score first.

    overlap: (D,) the greatest IoU with an object of the class in the image.
    target: (D,) that object, counted through all images; anything where there is none.
    difficult: (D,) bool, whether it is difficult.
    """

    overlap: NDArray[np.float64]
    target: NDArray[np.int64]
    difficult: NDArray[np.bool_]


def average_precision(answers: Answers, objects: int, threshold: float) -> tuple[float, float]:
    """AP of 2007, at eleven recalls, and AP since 2010, the area below the curve.

    A detection is right if its object, the one it overlaps most, is overlapped by more than the threshold and was not
    found by a better detection. One whose object is difficult does not count.

    Args:
        answers: of a class.
        objects: how many there are of it, difficult ones left out; at least one.
        threshold: of the IoU.
    """
    near = answers.overlap > threshold
    asked = np.flatnonzero(near & ~answers.difficult)
    right = np.zeros(len(near), bool)
    right[asked[np.unique(answers.target[asked], return_index=True)[1]]] = True
    wrong = ~right & ~(near & answers.difficult)
    found = np.cumsum(right)
    recall = found / objects
    precision = found / np.maximum(found + np.cumsum(wrong), np.finfo(np.float64).eps)
    return _at_eleven_recalls(recall, precision), _area(recall, precision)


def _at_eleven_recalls(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    best = [precision[recall >= least].max(initial=0.0) for least in np.arange(0.0, 1.1, 0.1)]
    return float(sum(value / 11.0 for value in best))


def _area(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    recall = np.concatenate(([0.0], recall, [1.0]))
    highest = np.maximum.accumulate(np.concatenate(([0.0], precision, [0.0]))[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(((recall[steps + 1] - recall[steps]) * highest[steps + 1]).sum())
