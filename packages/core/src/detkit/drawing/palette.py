"""Colours for classes: far apart from each other, and always the same."""

from __future__ import annotations

from functools import cache

import numpy as np

_COUNT = 96  # colours that are told apart; further classes begin again


@cache
def palette() -> np.ndarray:
    """Colours (96, 3) uint8 RGB, each as far as can be from those before it, so that the first few are far apart.

    Farthest-point sampling in CIELAB, where distance is about what the eye sees, among colours that are neither grey
    nor so dark or bright that they vanish on a photograph.
    """
    steps = np.arange(0, 256, 15)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _to_lab(rgb)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    usable = (lab[:, 0] > 35) & (lab[:, 0] < 88) & (chroma > 45)
    rgb, lab, chroma = rgb[usable], lab[usable], chroma[usable]
    chosen = [int(chroma.argmax())]
    distance = np.linalg.norm(lab - lab[chosen[0]], axis=1)
    while len(chosen) < _COUNT:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
    return rgb[chosen].astype(np.uint8)


def colour(label: int) -> tuple[int, int, int]:
    """The colour of a class, RGB."""
    red, green, blue = palette()[label % _COUNT].tolist()
    return red, green, blue


def text_colour(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on a background (the greater contrast ratio as WCAG 2 defines it)."""
    luminance = float(_linear(np.array(background)) @ (0.2126, 0.7152, 0.0722))
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)


def _linear(rgb: np.ndarray) -> np.ndarray:
    """sRGB values (..., 3) from 0 to 255 -> linear light from 0 to 1."""
    value = rgb / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (N, 3) from 0 to 255 -> CIELAB under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = _linear(rgb) @ to_xyz.T / (0.9505, 1.0, 1.089)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
