"""Changing colours, which leaves everything in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from detkit.data.transforms import photometry
from detkit.data.transforms.draws import chance, check_probability, check_range, number
from detkit.data.transforms.photometry import Operation
from detkit.interfaces import Transform
from detkit.structures.sample import Sample

_ORDER: tuple[Callable[..., Tensor], ...] = (
    photometry.brightness,
    photometry.contrast,
    photometry.saturation,
    photometry.hue,
)

# Of the colours of ImageNet's pixels, 0 to 1: how much they vary, and in which directions (Krizhevsky et al. 2012).
_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in random order, as `torchvision.transforms.v2.ColorJitter`
    does, to a grey level for each.

    Args:
        brightness: factors are drawn from 1 - brightness to 1 + brightness.
        contrast: likewise.
        saturation: likewise.
        hue: shifts are drawn from -hue to hue, at most 0.5, half a turn of the colour circle.
    """

    def __init__(
        self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.0
    ) -> None:
        if min(brightness, contrast, saturation) < 0 or not 0 <= hue <= 0.5:
            raise ValueError(
                f"brightness {brightness}, contrast {contrast}, saturation {saturation}, hue {hue}: "
                "numbers from 0 on are needed, hue up to 0.5"
            )
        self.ranges = [(max(0.0, 1 - spread), 1 + spread) for spread in (brightness, contrast, saturation)]
        self.ranges.append((-hue, hue))

    def __call__(self, sample: Sample) -> Sample:
        operations: list[Operation] = []
        for place in torch.randperm(len(_ORDER)).tolist():
            low, high = self.ranges[place]
            if low < high:
                operations.append((_ORDER[place], number(low, high)))
        return _coloured(sample, operations)


class PhotometricDistort(Transform):
    """The colour distortions of SSD (Liu et al. 2016, https://arxiv.org/abs/1512.02325), as in
    `torchvision.transforms.v2.RandomPhotometricDistort`, to a grey level for each.

    Args:
        probability: of each of the distortions.
        brightness: the smallest and the largest factor.
        contrast: likewise.
        saturation: likewise.
        hue: the smallest and the largest shift, as shares of the colour circle.
        permute: whether the three channels may change places, as the last distortion.
    """

    def __init__(
        self,
        probability: float = 0.5,
        brightness: tuple[float, float] = (0.875, 1.125),
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: tuple[float, float] = (-0.05, 0.05),
        permute: bool = True,
    ) -> None:
        check_probability("probability", probability)
        for name, bounds in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
            check_range(name, bounds, 0)
        check_range("hue", hue, -0.5, 0.5)
        self.probability = probability
        self.ranges = (brightness, contrast, saturation, hue)
        self.permute = permute

    def __call__(self, sample: Sample) -> Sample:
        brightness, contrast, saturation, hue = (
            [(function, number(*bounds))] if chance(self.probability) else []
            for function, bounds in zip(_ORDER, self.ranges, strict=True)
        )
        early = chance(0.5)
        operations: list[Operation] = [*brightness, *(contrast if early else []), *saturation, *hue]
        operations += [] if early else contrast
        if self.permute and chance(self.probability):
            operations.append((photometry.permuted, torch.randperm(3).tolist()))
        return _coloured(sample, operations)


class ColorAugSSD(Transform):
    """The colour distortions of SSD (Liu et al. 2016) as Detectron2's semantic models have them: a number is added for
    brightness, contrast multiplies, saturation and hue are those of HSV; each by chance, one time in two.

    Args:
        brightness_delta: at most this is added, in grey levels.
        contrast_low, contrast_high: the smallest and the largest factor.
        saturation_low, saturation_high: the smallest and the largest factor.
        hue_delta: the largest shift in steps of two degrees, as OpenCV counts hue.
    """

    def __init__(
        self,
        brightness_delta: float = 32.0,
        contrast_low: float = 0.5,
        contrast_high: float = 1.5,
        saturation_low: float = 0.5,
        saturation_high: float = 1.5,
        hue_delta: float = 18.0,
    ) -> None:
        check_range("contrast_low, contrast_high", (contrast_low, contrast_high), 0)
        check_range("saturation_low, saturation_high", (saturation_low, saturation_high), 0)
        if brightness_delta < 0 or not 0 <= hue_delta <= 90:
            raise ValueError(f"brightness_delta {brightness_delta}, hue_delta {hue_delta}: 0 or more, hue up to 90")
        self.brightness_delta = brightness_delta
        self.contrast = (contrast_low, contrast_high)
        self.saturation = (saturation_low, saturation_high)
        self.hue_delta = hue_delta

    def __call__(self, sample: Sample) -> Sample:
        operations: list[Operation] = []
        if chance(0.5):
            delta = number(-self.brightness_delta, self.brightness_delta)
            operations.append((photometry.added, (delta, delta, delta)))
        contrast: list[Operation] = [(photometry.brightness, number(*self.contrast))] if chance(0.5) else []
        early = chance(0.5)
        operations += contrast if early else []
        if chance(0.5):
            operations.append((photometry.saturation_hsv, number(*self.saturation)))
        if chance(0.5):
            operations.append((photometry.hue, number(-self.hue_delta, self.hue_delta) / 180))
        return _coloured(sample, operations + ([] if early else contrast))


class RandomBrightness(Transform):
    """Multiply with a random factor: below 1 the image becomes darker, above 1 brighter.

    Args:
        intensity_min: the smallest factor.
        intensity_max: the largest factor.
    """

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        check_range("intensity_min, intensity_max", (intensity_min, intensity_max), 0)
        self.intensity = (intensity_min, intensity_max)

    def __call__(self, sample: Sample) -> Sample:
        return _coloured(sample, [(photometry.brightness, number(*self.intensity))])


class RandomContrast(Transform):
    """Move all numbers away from or towards their mean by a random factor. (`color_jitter` takes the mean brightness.)

    Args:
        intensity_min: the smallest factor; 0 would make the image one grey.
        intensity_max: the largest factor.
    """

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        check_range("intensity_min, intensity_max", (intensity_min, intensity_max), 0)
        self.intensity = (intensity_min, intensity_max)

    def __call__(self, sample: Sample) -> Sample:
        return _coloured(sample, [(photometry.contrast_of_colours, number(*self.intensity))])


class RandomSaturation(Transform):
    """Move every pixel away from or towards its grey by a random factor.

    Args:
        intensity_min: the smallest factor; 0 makes the image grey.
        intensity_max: the largest factor.
    """

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        check_range("intensity_min, intensity_max", (intensity_min, intensity_max), 0)
        self.intensity = (intensity_min, intensity_max)

    def __call__(self, sample: Sample) -> Sample:
        return _coloured(sample, [(photometry.saturation_of_colours, number(*self.intensity))])


class RandomLighting(Transform):
    """Add a colour, along the directions in which the colours of ImageNet vary, after AlexNet (Krizhevsky et al. 2012).

    Args:
        scale: the standard deviation, 0.1 in the paper, where colours go from 0 to 1. (Detectron2 adds the same to
            colours from 0 to 255, where 0.1 changes nothing: its `scale` is 255 times this one.)
    """

    def __init__(self, scale: float = 0.1) -> None:
        if scale < 0:
            raise ValueError(f"scale is {scale}; 0 or more is needed")
        self.scale = scale

    def __call__(self, sample: Sample) -> Sample:
        weights = torch.randn(3) * self.scale * torch.tensor(_EIGENVALUES)
        offsets: Sequence[float] = (255 * torch.tensor(_EIGENVECTORS) @ weights).tolist()
        return _coloured(sample, [(photometry.added, tuple(offset + 0.5 for offset in offsets))])


def _coloured(sample: Sample, operations: Sequence[Operation]) -> Sample:
    return replace(sample, image=photometry.changed(sample.image, operations)) if operations else sample
