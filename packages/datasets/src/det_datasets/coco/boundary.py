"""Boundaries of masks, whose overlap tells good outlines from fair ones where that of large masks does not (Cheng et
al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hotcoco import mask as rle
from numpy.typing import NDArray

RATIO = 0.02
"""How wide a boundary is, of the image's diagonal."""


def boundary_overlaps(
    masks: list[Any], boundaries: list[Any], objects: list[Any], object_boundaries: list[Any], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The overlaps (D, G) that the boundary AP is made of: IoU of masks or of boundaries, whichever is smaller, and of
    crowds what COCO takes for masks, the share of the detection that they cover.

    Args:
        masks, boundaries: compressed RLE of D detections, and of their `boundaries_of`.
        objects, object_boundaries: the same of G objects.
        crowd: (G,).
    """
    if not masks or not objects:
        return np.zeros((len(masks), len(objects)))
    whole = rle.iou(masks, objects, crowd)
    return np.where(crowd, whole, np.minimum(whole, rle.iou(boundaries, object_boundaries, crowd)))


def boundaries_of(masks: NDArray[np.bool_], ratio: float = RATIO) -> NDArray[np.bool_]:
    """The pixels (N, H, W) of masks (N, H, W) within a distance of what is not the mask, or of the image's border: the
    greater of the distances in x and y, at most `ratio` of the image's diagonal (rounded, at least 1)."""
    distance = max(1, round(ratio * math.sqrt(masks.shape[1] ** 2 + masks.shape[2] ** 2)))
    boundaries = masks.copy()
    rows, columns = np.asarray(masks.any(axis=2)), np.asarray(masks.any(axis=1))
    for mask, own_rows, own_columns in zip(boundaries, rows, columns, strict=True):
        inside = mask[_extent(own_rows), _extent(own_columns)]  # most masks fill a small part of their image
        inside &= ~_eroded(_eroded(inside, distance).T, distance).T
    return boundaries


def _extent(there: NDArray[np.bool_]) -> slice:
    places = np.flatnonzero(there)
    return slice(places[0], places[-1] + 1) if len(places) else slice(0)


def _eroded(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """Whether all pixels (H, W) within a distance up and down are set; those outside are not. The window doubles with
    each step."""
    length = 2 * distance + 1
    mask = np.pad(mask, ((distance, distance), (0, 0)))
    size = 1
    while size < length:
        step = min(size, length - size)
        mask = mask[:-step] & mask[step:]
        size += step
    return mask
