"""Quadrilaterals, and the rotated boxes around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

_PAIRS = np.array([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (1, 3)])


def rotated_boxes(quads: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotated boxes (n, 5) of least area around quadrilaterals (n, 4, 2) of any order of corners: centre x, y, the
    longer side, the shorter side, and the angle from -90 to below 90 degrees that the longer one is turned
    counter-clockwise.

    One side of such a box lies on an edge of the hull, which is one of the six lines between corners.
    """
    lines = quads[:, _PAIRS[:, 1]] - quads[:, _PAIRS[:, 0]]  # (n, 6, 2)
    length = np.hypot(lines[..., 0], lines[..., 1])
    along = np.where(length[..., None] > 0, lines / np.maximum(length, 1e-300)[..., None], (1.0, 0.0))
    across = np.stack((-along[..., 1], along[..., 0]), axis=-1)
    axes = np.stack((along, across), axis=2)  # (n, 6, 2, 2): direction, axis, xy
    origin = quads.mean(axis=1, keepdims=True)
    spread = np.einsum("npc,ndac->ndap", quads - origin, axes)  # (n, 6, 2, 4)
    low, high = spread.min(axis=-1), spread.max(axis=-1)
    sizes = high - low
    rows = np.arange(len(quads))
    # Of equal ones the first, an edge; whatever rounding does to their areas.
    areas = sizes.prod(axis=-1)
    best = (areas <= areas.min(axis=1, keepdims=True) * (1 + 1e-9) + 1e-9).argmax(axis=1)
    low, high, sizes, axes = low[rows, best], high[rows, best], sizes[rows, best], axes[rows, best]
    centres = origin[:, 0] + np.einsum("na,nac->nc", (low + high) / 2, axes)
    tall = sizes[:, 1] > sizes[:, 0]
    direction = np.where(tall[:, None], axes[:, 1], axes[:, 0])
    sizes = np.where(tall[:, None], sizes[:, ::-1], sizes)
    angles = np.degrees(np.arctan2(-direction[:, 1], direction[:, 0]))  # y points down
    angles = (angles + 90) % 180 - 90
    return np.concatenate((centres, sizes, angles[:, None]), axis=1)


def corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners (n, 4, 2) of rotated boxes (n, 5): upper left, upper right, lower right, lower left, all turned."""
    radians = np.radians(boxes[:, 4])
    along = np.stack((np.cos(radians), -np.sin(radians)), axis=1) * boxes[:, 2:3] / 2
    down = np.stack((np.sin(radians), np.cos(radians)), axis=1) * boxes[:, 3:4] / 2
    centres = boxes[:, :2]
    return np.stack((centres - along - down, centres + along - down, centres + along + down, centres - along + down), 1)


def quads_of_boxes(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners (n, 4, 2) of upright boxes (n, 4) xyxy, in the same order."""
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def quads_of_target(target: Mapping[str, Any]) -> NDArray[np.float64]:
    """The corners (N, 4, 2) of the objects of a sample: of its rotated boxes; else of the least rotated boxes around
    outlines, where there are; else of its boxes."""
    boxes = np.asarray(target["boxes"], np.float64)
    if boxes.shape[1] == 5:
        return corners(boxes)
    quads = quads_of_boxes(boxes)
    if "polygons" in target:
        for number, rings in enumerate(target["polygons"].rings()):
            hull = shapely.oriented_envelope(shapely.MultiPoint(np.concatenate(rings))) if rings else None
            if isinstance(hull, shapely.Polygon):
                quads[number] = shapely.get_coordinates(hull.exterior)[:4]
    return quads
