"""What lies behind the shapes where pixels are labelled: regions of different textures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from det_datasets.shapes.noise import smooth_noise

NAMES = ("things", "plain", "stripes", "noise")
"""The classes of pixels, label 0 first; things are the shapes."""


@dataclass
class Ground:
    """`canvas` (H, W, 3) float32 and the `labels` (H, W) uint8 of its pixels, from 1."""

    canvas: NDArray[np.float32]
    labels: NDArray[np.uint8]


def lay_ground(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Two to four regions with wavy borders; neighbours differ in colour, and the first three in texture."""
    count = int(rng.integers(2, 5))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = 0.08 * min(height, width)
    rows += waves * smooth_noise(rng, 6, height, width)
    columns += waves * smooth_noise(rng, 6, height, width)
    centres = rng.uniform(0.1, 0.9, (count, 2)) * (height, width)
    region = np.stack([(rows - y) ** 2 + (columns - x) ** 2 for y, x in centres]).argmin(axis=0)
    classes = rng.permutation(np.arange(1, len(NAMES)))[np.arange(count) % (len(NAMES) - 1)]
    canvas = np.empty((height, width, 3), np.float32)
    for index, label in enumerate(classes):
        texture = rng.uniform(70, 185, 3) + _texture(rng, NAMES[label], height, width)[..., None]
        canvas[region == index] = texture[region == index]
    return Ground(canvas, classes[region].astype(np.uint8))


def _texture(rng: np.random.Generator, name: str, height: int, width: int) -> NDArray[np.float32]:
    """Differences in brightness (H, W)."""
    if name == "stripes":
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 14)
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        phase = (rows * np.float32(np.sin(angle)) + columns * np.float32(np.cos(angle))) * np.float32(
            2 * np.pi / period
        )
        return np.float32(rng.uniform(25, 40)) * np.sin(phase)
    if name == "noise":
        return np.float32(rng.uniform(40, 60)) * smooth_noise(rng, max(height, width) // 4, height, width)
    return 12 * smooth_noise(rng, 3, height, width)
