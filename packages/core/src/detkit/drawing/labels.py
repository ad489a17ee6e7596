"""Where labels go: near their box, inside the image, off each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_FAR = 4  # rows of labels above and below a box that are tried when the places next to it are taken


def place_labels(
    boxes: np.ndarray, sizes: Sequence[tuple[int, int]], image_size: tuple[int, int], gap: int = 1
) -> np.ndarray:
    """Corners (N, 2) x, y of labels, in whole pixels.

    Labels are placed in order, so put the most important first. Each takes the first place, from above its box's left
    corner to farther ones, where it covers no earlier label; if there is none, the place where it covers least.

    Args:
        boxes: (N, 4) xyxy pixels.
        sizes: width and height of each label.
        image_size: height and width of the image, which labels do not leave unless they are larger.
        gap: pixels to keep between labels.
    """
    height, width = image_size
    placed = np.zeros((len(boxes), 4))
    for index, (box, (label_width, label_height)) in enumerate(zip(boxes, sizes, strict=True)):
        size = np.array([label_width, label_height])
        corners = np.clip(np.round(_candidates(box, size)), 0, np.maximum(np.array([width, height]) - size, 0))
        covered = _overlap(np.concatenate([corners, corners + size], axis=1), placed[:index], gap)
        corner = corners[covered.argmin()]  # the first of the best
        placed[index] = (*corner, *(corner + size))
    return placed[:, :2].astype(int)


def _candidates(box: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Corners (K, 2) at which a label belongs to a box, best first."""
    (x1, y1, x2, y2), (width, height) = box, size
    left, right, middle = x1, x2 - width, (x1 + x2 - width) / 2
    rows = [y1 - height, y1, y2, y2 - height]  # above, inside at the top, below, inside at the bottom
    near = [(x, y) for y in rows for x in (left, right, middle)]
    beside = [(x2, y1), (x1 - width, y1), (x2, y2 - height), (x1 - width, y2 - height)]
    within = [(x, y) for y in np.arange(y1 + height, y2 - height, height) for x in (left, right)]
    far = [
        (x, y)
        for step in range(1, _FAR + 1)
        for y in (y1 - height * (step + 1), y2 + height * step)
        for x in (left, right)
    ]
    return np.array(near + beside + within + far)


def _overlap(places: np.ndarray, taken: np.ndarray, gap: int) -> np.ndarray:
    """Area (K,) of each place (K, 4) that is covered by places already taken (M, 4)."""
    low = np.maximum(places[:, None, :2], taken[None, :, :2] - gap)
    high = np.minimum(places[:, None, 2:], taken[None, :, 2:] + gap)
    return (high - low).clip(min=0).prod(axis=2).sum(axis=1)
