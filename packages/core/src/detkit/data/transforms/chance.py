"""Transforms that are applied to some samples only."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from detkit.data.transforms.draws import chance, check_probability
from detkit.interfaces import MixingTransform, Transform
from detkit.structures.sample import Sample


class RandomApply(Transform):
    """Other transforms, one after the other, on a share of the samples; the rest stay as they are.

    Args:
        transforms: what to apply, all or none of them. Those that mix several samples have a probability of their own,
            and belong into the chain itself.
        p: the probability with which they are.
    """

    def __init__(self, transforms: Sequence[Transform], p: float = 0.5) -> None:
        check_probability("p", p)
        _refuse_mixing("random_apply", transforms)
        self.transforms = tuple(transforms)
        self.p = p

    def __call__(self, sample: Sample) -> Sample:
        if chance(self.p):
            for transform in self.transforms:
                sample = transform(sample)
        return sample


class RandomChoice(Transform):
    """One of several transforms.

    Args:
        transforms: to choose from; not those that mix several samples.
        weights: how often each is chosen, in proportion; null chooses all alike.
    """

    def __init__(self, transforms: Sequence[Transform], weights: Sequence[float] | None = None) -> None:
        weights = [1.0] * len(transforms) if weights is None else weights
        if len(weights) != len(transforms) or not transforms or min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"{len(transforms)} transforms and weights {list(weights)}: one weight above 0 for each")
        _refuse_mixing("random_choice", transforms)
        self.transforms = tuple(transforms)
        self.weights = tuple(map(float, weights))

    def __call__(self, sample: Sample) -> Sample:
        return self.transforms[int(torch.multinomial(torch.tensor(self.weights), 1))](sample)


def _refuse_mixing(name: str, transforms: Sequence[Transform]) -> None:
    for transform in transforms:
        if isinstance(transform, MixingTransform):
            raise ValueError(
                f"{name}: {type(transform).__name__} mixes several samples, which only the chain of transforms itself "
                "can give it; write it there, with its own p"
            )
