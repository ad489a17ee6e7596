"""Transforms that are applied to some samples only."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from detkit.interfaces import Transform
from detkit.structures.sample import Sample


class RandomApply(Transform):
    """Other transforms, one after the other, on a share of the samples; the rest stay as they are.

    Args:
        transforms: what to apply, all or none of them.
        p: the probability with which they are.
    """

    def __init__(self, transforms: Sequence[Transform], p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p}; a probability from 0 to 1 is needed")
        self.transforms = tuple(transforms)
        self.p = p

    def __call__(self, sample: Sample) -> Sample:
        if float(torch.rand(())) < self.p:
            for transform in self.transforms:
                sample = transform(sample)
        return sample
