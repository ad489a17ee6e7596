"""Masks blended into an image: a semi-transparent fill and an opaque outline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def blend_masks(
    pixels: np.ndarray, masks: np.ndarray, colours: Sequence[tuple[int, int, int]], *, opacity: float, line: int
) -> None:
    """Blend masks (N, H, W) bool into pixels (H, W, 3) uint8, in place; large ones first, lest they hide small ones.

    Args:
        pixels: the image.
        masks: one for each instance.
        colours: RGB, one for each mask.
        opacity: of the fill, from 0 to 1.
        line: width of the outline in pixels; it lies inside the mask.
    """
    areas = masks.sum(axis=(1, 2))
    for index in np.argsort(-areas, kind="stable"):
        if areas[index] == 0:
            continue
        window = _bounds(masks[index])
        mask, part = masks[index][window], pixels[window]
        tint = np.array(colours[index], dtype=np.float32)
        filled = part[mask] * (1 - opacity) + tint * opacity
        part[mask] = (filled + 0.5).astype(np.uint8)
        part[outline(mask, line)] = colours[index]


def outline(mask: np.ndarray, line: int) -> np.ndarray:
    """The pixels (H, W) of a mask (H, W) bool that are within `line` steps, up, down, left or right, of its outside.
    What lies beyond the array is outside."""
    inner = np.pad(mask, 1)
    for _ in range(line):
        eroded = inner.copy()
        eroded[1:] &= inner[:-1]
        eroded[:-1] &= inner[1:]
        eroded[:, 1:] &= inner[:, :-1]
        eroded[:, :-1] &= inner[:, 1:]
        inner = eroded
    return mask & ~inner[1:-1, 1:-1]


def _bounds(mask: np.ndarray) -> tuple[slice, slice]:
    """The smallest window that holds a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
