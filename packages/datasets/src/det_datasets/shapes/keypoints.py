"""Four keypoints of every shape: its top, its left and right, and its bottom, turned with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely import Point

from det_datasets.shapes.scene import Item

NAMES = ("top", "left", "right", "bottom")
SKELETON = ((1, 2), (2, 4), (4, 3), (3, 1))
"""Around the shape; counted from 1, as in COCO files."""
SIGMA = 0.05

_BESIDE = 1.0  # pixels: keypoints lie on the outline, where the visible part ends too

# The vertices of an outline of `det_datasets.shapes.outlines` in whose middle each keypoint lies. A turned circle looks
# like one that is not turned: its keypoints are its extreme points.
_VERTICES = {
    "square": ((0, 1), (3, 0), (1, 2), (2, 3)),
    "triangle": ((0,), (2,), (1,), (1, 2)),
    "star": ((0,), (8,), (2,), (5,)),
    "cross": ((11, 0), (8, 9), (2, 3), (5, 6)),
}


def place_keypoints(name: str, outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """The keypoints (4, 2) x, y of a shape of this name with this outline (P, 2), in pixels of the plane."""
    if name == "circle":
        x, y = outline.T
        return outline[[y.argmin(), x.argmin(), x.argmax(), y.argmax()]]
    return np.stack([outline[list(vertices)].mean(axis=0) for vertices in _VERTICES[name]])


def annotate_keypoints(item: Item, height: int, width: int) -> dict[str, Any]:
    """`keypoints` and `num_keypoints` of a COCO annotation: those outside the picture are not labelled, nor are those
    of crowds; those behind another shape are labelled but hidden."""
    numbers: list[float] = []
    for x, y in () if item.crowd else place_keypoints(item.name, item.pieces[0]).tolist():
        if not (0 <= x <= width and 0 <= y <= height):
            numbers += [0, 0, 0]
        else:
            seen = item.visible.distance(Point(x, y)) <= _BESIDE
            numbers += [round(x - 0.5, 2), round(y - 0.5, 2), 2 if seen else 1]  # COCO counts pixels
    numbers = numbers or [0] * (3 * len(NAMES))
    return {"keypoints": numbers, "num_keypoints": sum(seen > 0 for seen in numbers[2::3])}


def describe_category() -> dict[str, Any]:
    """What the entry of a category says of keypoints."""
    return {"keypoints": NAMES, "skeleton": SKELETON, "sigmas": [SIGMA] * len(NAMES)}
