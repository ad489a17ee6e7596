"""What becomes of the detections of one image: which find an object, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hotcoco import mask as rle
from numpy.typing import NDArray

from det_datasets.coco.matching import match
from det_datasets.diagnosis.objects import ImageTruth, areas_of, intersections

ERRORS = ("localisation", "classification", "duplicate", "background", "both")
"""The kinds of wrong detections, numbered from 1."""
IN_WORDS: Mapping[str, str] = {
    "localisation": "badly placed",
    "classification": "wrong class",
    "duplicate": "found again",
    "background": "nothing there",
    "both": "wrong class and badly placed",
}
RIGHT = 0
NOT_COUNTED = -1
BACKGROUND_IOU = 0.1  # of Bolya et al., 2020

Fields = dict[str, NDArray[Any]]


def overlaps(boxes: NDArray[np.float64], masks: list[dict[str, Any]] | None, truth: ImageTruth) -> NDArray[np.float64]:
    """(D, G): intersection over union; with crowds, over the detection alone."""
    if not len(boxes) or not len(truth.labels):
        return np.zeros((len(boxes), len(truth.labels)))
    if truth.masks is not None and masks is not None:
        found: NDArray[np.float64] = np.asarray(rle.iou(masks, truth.masks, truth.crowd.tolist()), np.float64)
        return found
    shared = intersections(boxes, truth.boxes)
    own = areas_of(boxes)[:, None]
    whole = np.where(truth.crowd, own, own + areas_of(truth.boxes) - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)


def outcomes(
    pairs: NDArray[np.float64],
    labels: NDArray[np.int64],
    truth: ImageTruth,
    thresholds: NDArray[np.float64],
    pardoned: NDArray[np.bool_],
) -> Fields:
    """Columns of D detections, best score first.

    Args:
        pairs: (D, G) overlaps.
        labels: (D,).
        truth: the objects.
        thresholds: (T,) overlaps from which on an object is found; errors are of the first.
        pardoned: (D,) detections that are not wrong when they find nothing.

    Returns:
        found (D, T): the object of its class that a detection finds, or -1. counted (D, T): whether the detection is
        right or wrong at all: not if it found an object that need not be found. overlap (D,): with the object that it
        finds at the first threshold, else 0. agnostic (D,): the object of any class, or -1, and agnostic_counted. kind
        (D,): `RIGHT`, the number of an error, or `NOT_COUNTED`. target (D,): the object that a detection of kind
        localisation or classification was meant for, else -1.
    """
    same = np.where(labels[:, None] == truth.labels, pairs, -1.0)
    found = _found(same, truth, thresholds)
    agnostic = _found(pairs, truth, thresholds[:1])[:, 0]
    counted = _counted(found, truth, pardoned)
    kind, target = _errors(pairs, labels, truth, float(thresholds[0]), found[:, 0], counted[:, 0])
    return {
        "found": found.astype(np.int32),
        "counted": counted,
        "overlap": np.pad(pairs, ((0, 0), (0, 1)))[np.arange(len(pairs)), found[:, 0]],  # -1 is the last
        "agnostic": agnostic.astype(np.int32),
        "agnostic_counted": _counted(agnostic[:, None], truth, pardoned)[:, 0],
        "kind": kind,
        "target": target,
    }


def _found(pairs: NDArray[np.float64], truth: ImageTruth, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """(D, T): as `match`, which looks at one detection after the other; most overlap with nothing."""
    found = np.full((len(pairs), len(thresholds)), -1)
    close = (pairs >= min(thresholds.min(), 1 - 1e-10)).any(axis=1)
    found[close] = match(pairs[close], truth.ignored, truth.crowd, thresholds).T
    return found


def _counted(found: NDArray[np.int64], truth: ImageTruth, pardoned: NDArray[np.bool_]) -> NDArray[np.bool_]:
    ignored = np.append(truth.ignored, False)[found]  # -1 is the last
    return ~np.where(found >= 0, ignored, pardoned[:, None])


def _errors(
    pairs: NDArray[np.float64],
    labels: NDArray[np.int64],
    truth: ImageTruth,
    least: float,
    found: NDArray[np.int64],
    counted: NDArray[np.bool_],
) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Kind and target of each detection, as TIDE tells them apart (Bolya et al., A General Toolbox for Identifying
    Object Detection Errors, 2020; https://arxiv.org/abs/2008.08115), in its order."""
    regular = ~truth.ignored
    mine = labels[:, None] == truth.labels
    own, other = (np.where(which & regular, pairs, -1.0) for which in (mine, ~mine))
    nothing = np.full((len(pairs), 1), -1.0)  # so that there is a greatest without objects, too
    own_target, other_target = (np.concatenate((each, nothing), axis=1).argmax(axis=1) for each in (own, other))
    own_best, other_best = (np.concatenate((each, nothing), axis=1).max(axis=1) for each in (own, other))
    kinds = (
        (own_best >= BACKGROUND_IOU) & (own_best < least),
        other_best >= least,
        own_best >= least,
        np.maximum(own_best, other_best) < BACKGROUND_IOU,
    )
    kind = np.select(kinds, range(1, len(kinds) + 1), len(ERRORS))
    target = np.select(kinds[:2], (own_target, other_target), -1)
    wrong = counted & (found < 0)
    kind = np.where(wrong, kind, np.where(counted, RIGHT, NOT_COUNTED))
    return kind.astype(np.int8), np.where(wrong, target, -1).astype(np.int32)
