"""Changing colours of images of 640 x 480, as they come from decoders: one after the other, against torchvision's v2.

Both sides do the same with the same factors, on one thread; what counts is the processor's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from benchmarks.measure import interleaved, ratio
from detkit.data.transforms import photometry

HEIGHT, WIDTH = 480, 640
OPERATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], float]] = {
    "brightness": (photometry.brightness, F.adjust_brightness, 1.2),
    "contrast": (photometry.contrast, F.adjust_contrast, 0.8),
    "saturation": (photometry.saturation, F.adjust_saturation, 1.3),
    "hue": (photometry.hue, F.adjust_hue, 0.04),
}


def main(rounds: int) -> dict[str, Any]:
    """Change an image, `rounds` times with each side, by each operation and by all; print milliseconds and ratios."""
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    print(f"\nColours of {WIDTH} x {HEIGHT} images on one core, milliseconds:")
    for name, steps in {**{name: [name] for name in OPERATIONS}, "all four": list(OPERATIONS)}.items():
        sides = {"detkit": partial(ours, photograph(), steps), "torchvision": partial(theirs, photograph(), steps)}
        difference = int((sides["detkit"]().int() - sides["torchvision"]().int()).abs().max())
        assert difference <= len(steps), f"{name} differs by {difference} grey levels"
        seconds = interleaved(sides, rounds, clock=time.process_time)
        spent = {side: 1000 * float(np.median(values)) for side, values in seconds.items()}
        figures[name] = {"milliseconds": spent, "ratio": ratio(seconds, "detkit", "torchvision")}
        print(
            f"  {name:10}  detkit {spent['detkit']:5.1f}  torchvision {spent['torchvision']:5.1f}: "
            f"{figures[name]['ratio']:.1f} times as fast; they differ by {difference} at most"
        )
    return figures


def ours(image: tv_tensors.Image, steps: list[str]) -> torch.Tensor:
    return photometry.changed(image, [(OPERATIONS[name][0], OPERATIONS[name][2]) for name in steps])


def theirs(image: tv_tensors.Image, steps: list[str]) -> torch.Tensor:
    for name in steps:
        _, function, factor = OPERATIONS[name]
        image = function(image, factor)
    return image


def photograph() -> tv_tensors.Image:
    """Smooth colours with some noise, laid out pixel by pixel."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels = np.clip(smooth + rng.integers(-8, 9, smooth.shape), 0, 255).astype(np.uint8)
    return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
