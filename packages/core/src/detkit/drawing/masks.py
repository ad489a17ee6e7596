"""Masks blended into an image: a semi-transparent fill and an opaque outline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detkit.structures.placed_masks import PlacedMasks


def blend_masks(
    pixels: np.ndarray,
    masks: PlacedMasks,
    colours: Sequence[tuple[int, int, int]],
    *,
    opacity: float,
    line: int,
    zoom: int = 1,
) -> None:
    """Blend masks into pixels (H, W, 3) uint8, in place; large ones first, lest they hide small ones.

    Args:
        pixels: the image.
        masks: one for each instance.
        colours: RGB, one for each mask.
        opacity: of the fill, from 0 to 1.
        line: width of the outline in pixels; it lies inside the mask.
        zoom: how often the pixels repeat those of the masks, in both directions.
    """
    parts = [part.repeat(zoom, axis=0).repeat(zoom, axis=1) for part in masks.parts]
    areas = np.array([part.sum() for part in parts])
    for index in np.argsort(-areas, kind="stable"):
        mask, (left, top) = parts[index], masks.corners[index]
        part = pixels[top * zoom :, left * zoom :][: mask.shape[0], : mask.shape[1]]
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
