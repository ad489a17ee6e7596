"""Cutting out a part of the image. What of an instance lies outside is cut off after the last transform."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torchvision.transforms.v2 import functional as F

from detkit.data.transforms.moving import moved, moved_target
from detkit.interfaces import Transform
from detkit.structures.sample import Sample


class RandomCrop(Transform):
    """Cut out a rectangle of random place, and perhaps of random size.

    Args:
        crop_size: two numbers that `crop_type` explains.
        crop_type: "relative": height and width as shares of the image's; "relative_range": the smallest shares, each
            side drawn from there to 1; "absolute": height and width in pixels; "absolute_range": smallest and largest
            length in pixels of either side. Nothing is larger than the image.
    """

    def __init__(
        self,
        crop_size: tuple[float, float] = (0.9, 0.9),
        crop_type: Literal["relative", "relative_range", "absolute", "absolute_range"] = "relative_range",
    ) -> None:
        first, second = crop_size
        if crop_type not in ("relative", "relative_range", "absolute", "absolute_range"):
            raise ValueError(
                f"crop_type is {crop_type!r}; it must be 'relative', 'relative_range', 'absolute' or 'absolute_range'"
            )
        if crop_type.startswith("relative") and not (0 < first <= 1 and 0 < second <= 1):
            raise ValueError(f"crop_size {crop_size} of type {crop_type!r}: shares above 0 and up to 1 are needed")
        if crop_type.startswith("absolute") and (first < 1 or second < 1):
            raise ValueError(f"crop_size {crop_size} of type {crop_type!r}: pixels, at least 1, are needed")
        if crop_type == "absolute_range" and first > second:
            raise ValueError(f"crop_size {crop_size} of type {crop_type!r}: the smallest must come first")
        self.crop_size = (first, second)
        self.crop_type = crop_type

    def __call__(self, sample: Sample) -> Sample:
        height, width = sample.image.shape[-2:]
        crop_height, crop_width = self._draw(height, width)
        top, left = _place(height, crop_height), _place(width, crop_width)
        return moved(sample, F.crop, top, left, crop_height, crop_width)

    def _draw(self, height: int, width: int) -> tuple[int, int]:
        first, second = self.crop_size
        if self.crop_type == "absolute_range":
            return _length(height, first, second), _length(width, first, second)
        if self.crop_type == "absolute":
            return min(int(first), height), min(int(second), width)
        if self.crop_type == "relative_range":
            draws = torch.rand(2).tolist()
            first, second = first + draws[0] * (1 - first), second + draws[1] * (1 - second)
        return max(1, int(height * first + 0.5)), max(1, int(width * second + 0.5))


class LargeScaleJitter(Transform):
    """Resize by a random scale, then cut or pad to a square: large-scale jittering of Ghiasi et al. 2021.

    The picture is resized, its aspect ratio kept, to fit a square of `size` times the scale; of what is larger than
    `size` a random part is cut out, and what is smaller is padded at the right and the bottom.

    Args:
        size: of the square that comes out, in pixels.
        min_scale: the smallest scale.
        max_scale: the largest scale.
        fill: grey value of the padding; null leaves padding to the batch, for models whose input is padded to squares.
    """

    def __init__(
        self, size: int = 1024, min_scale: float = 0.1, max_scale: float = 2.0, fill: int | None = 128
    ) -> None:
        if size < 1 or not 0 < min_scale <= max_scale or not 0 <= (fill or 0) <= 255:
            raise ValueError(
                f"size {size}, min_scale {min_scale}, max_scale {max_scale}, fill {fill}: "
                "size >= 1, 0 < min_scale <= max_scale and fill from 0 to 255 are needed"
            )
        self.size = size
        self.min_scale = min_scale
        self.max_scale = max_scale
        self.fill = fill

    def __call__(self, sample: Sample) -> Sample:
        height, width = sample.image.shape[-2:]
        scale = self.min_scale + float(torch.rand(())) * (self.max_scale - self.min_scale)
        ratio = self.size * scale / max(height, width)
        height, width = max(1, round(height * ratio)), max(1, round(width * ratio))
        sample = moved(sample, F.resize, [height, width], antialias=True)
        crop_height, crop_width = min(height, self.size), min(width, self.size)
        if (crop_height, crop_width) != (height, width):
            sample = moved(
                sample, F.crop, _place(height, crop_height), _place(width, crop_width), crop_height, crop_width
            )
        if self.fill is None:
            return sample
        padding = [0, 0, self.size - crop_width, self.size - crop_height]
        image = F.pad(sample.image, padding, fill=self.fill)
        return replace(sample, image=image, target=moved_target(sample.target, F.pad, padding))


def _place(side: int, crop: int) -> int:
    """Where a crop starts along a side, drawn at random."""
    return int(torch.randint(side - crop + 1, ()))


def _length(side: int, low: float, high: float) -> int:
    """The length of a crop along a side, drawn at random from `low` to `high` but no more than there is."""
    return int(torch.randint(min(int(low), side), min(int(high), side) + 1, ()))
