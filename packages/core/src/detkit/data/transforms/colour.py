"""Changing colours, which leaves everything in its place."""

from __future__ import annotations

from dataclasses import replace

from torchvision.transforms import v2

from detkit.interfaces import Transform
from detkit.structures.sample import Sample


class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in random order (`torchvision.transforms.v2.ColorJitter`).

    Args:
        brightness: factors are drawn from 1 - brightness to 1 + brightness.
        contrast: likewise.
        saturation: likewise.
        hue: shifts are drawn from -hue to hue, at most 0.5, half a turn of the colour circle.
    """

    def __init__(
        self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.0
    ) -> None:
        self.jitter = v2.ColorJitter(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)

    def __call__(self, sample: Sample) -> Sample:
        return replace(sample, image=self.jitter(sample.image))


class PhotometricDistort(Transform):
    """The colour distortions of SSD (Liu et al. 2016), as in `torchvision.transforms.v2.RandomPhotometricDistort`.

    Args:
        probability: of each of the distortions.
    """

    def __init__(self, probability: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}; it must be from 0 to 1")
        self.distort = v2.RandomPhotometricDistort(p=probability)

    def __call__(self, sample: Sample) -> Sample:
        return replace(sample, image=self.distort(sample.image))
