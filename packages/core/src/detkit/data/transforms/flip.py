"""Mirroring."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from detkit.data.transforms.moving import moved
from detkit.interfaces import Transform
from detkit.structures.sample import Sample


class Flip(Transform):
    """Mirror left and right, upside down, or both, each by chance.

    Args:
        horizontal: probability of exchanging left and right.
        vertical: probability of exchanging top and bottom.
    """

    def __init__(self, horizontal: float = 0.5, vertical: float = 0.0) -> None:
        if not (0 <= horizontal <= 1 and 0 <= vertical <= 1):
            raise ValueError(f"horizontal {horizontal} and vertical {vertical} are probabilities, from 0 to 1")
        self.horizontal = horizontal
        self.vertical = vertical

    def __call__(self, sample: Sample) -> Sample:
        across, down = torch.rand(2).tolist()
        if across < self.horizontal:
            sample = _centred(moved(sample, F.horizontal_flip), 0)
        if down < self.vertical:
            sample = _centred(moved(sample, F.vertical_flip), 1)
        return sample


def _centred(sample: Sample, axis: int) -> Sample:
    """torchvision mirrors key points as pixel indices (x -> width - 1 - x); places in the plane go to width - x."""
    target = dict(sample.target)
    for key, value in target.items():
        if isinstance(value, tv_tensors.KeyPoints):
            points = value.as_subclass(Tensor).clone()
            points[..., axis] += 1
            target[key] = tv_tensors.wrap(points, like=value)
    return replace(sample, target=target)
