"""Smooth random textures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def smooth_noise(rng: np.random.Generator, cells: int, height: int, width: int) -> NDArray[np.float32]:
    """Smooth noise from about -1 to 1 with this many cells along each side: (H, W)."""
    grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
