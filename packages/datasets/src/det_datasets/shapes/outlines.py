"""The outlines of the shapes, as polygons around the origin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CATEGORY_IDS = {"circle": 1, "square": 2, "triangle": 5, "star": 7, "cross": 12}
"""1-based with gaps, as in COCO, so that a reader which confuses ids and labels does not get away with it."""


def _ring(radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points at these distances from the origin, at equal angles, the first above it: (P, 2)."""
    angles = np.arange(len(radii)) / len(radii) * 2 * np.pi - np.pi / 2
    return np.stack((radii * np.cos(angles), radii * np.sin(angles)), axis=1)


def _cross(arm: float) -> NDArray[np.float64]:
    quarter = np.array([(arm, -1.0), (arm, -arm), (1.0, -arm)])
    turn = np.array([(0.0, 1.0), (-1.0, 0.0)])  # a quarter turn of row vectors
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, times) for times in range(4)])


_UNIT = {
    "circle": _ring(np.full(48, 1.0)),
    "square": np.array([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]),
    "triangle": _ring(np.full(3, 1.15)),
    "star": _ring(np.tile((1.1, 0.5), 5)),
    "cross": _cross(0.38),
}


def outline(name: str, centre: tuple[float, float], radius: float, stretch: float, angle: float) -> NDArray[np.float64]:
    """The outline of a shape, (P, 2) x, y in pixels.

    Args:
        name: a key of `CATEGORY_IDS`.
        centre: x, y in pixels.
        radius: half the extent in pixels, about.
        stretch: width over height before turning, the area kept.
        angle: of the turn, in radians.
    """
    points = _UNIT[name] * (radius * np.sqrt(stretch), radius / np.sqrt(stretch))
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    return points @ turn + centre
