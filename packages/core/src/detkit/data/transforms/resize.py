"""Changing the size of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torchvision.transforms.v2 import functional as F

from detkit.data.transforms.moving import moved
from detkit.interfaces import Transform
from detkit.structures.input_spec import InputSpec
from detkit.structures.sample import Sample


class ResizeShortestEdge(Transform):
    """Resize so that the shortest edge has a size drawn at random, unless the longest would exceed `max_size`.

    Args:
        sizes: of the shortest edge in pixels.
        max_size: of the longest edge in pixels.
        draw: "choice" draws one of `sizes`, "range" any integer from the smallest to the largest of them.
    """

    def __init__(self, sizes: Sequence[int], max_size: int = 1333, draw: Literal["choice", "range"] = "choice") -> None:
        if not sizes or min(sizes) < 1 or max_size < max(sizes):
            raise ValueError(f"sizes {list(sizes)}, max_size {max_size}: sizes from 1 to max_size are needed")
        if draw not in ("choice", "range"):
            raise ValueError(f"draw is {draw!r}; it must be 'choice' or 'range'")
        self.sizes = tuple(sizes)
        self.max_size = max_size
        self.draw = draw

    def __call__(self, sample: Sample) -> Sample:
        if self.draw == "range":
            size = int(torch.randint(min(self.sizes), max(self.sizes) + 1, ()))
        else:
            size = self.sizes[int(torch.randint(len(self.sizes), ()))]
        rule = InputSpec(min_size=size, max_size=self.max_size)  # the rule of inference, so that both round alike
        return moved(sample, F.resize, list(rule.resized(*sample.image.shape[-2:])), antialias=True)
