"""Turning, scaling, shifting: affine maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from detkit.data.transforms.draws import chance, check_grey, check_probability, check_range, number, one_of
from detkit.data.transforms.moving import Matrix, warped
from detkit.interfaces import Transform
from detkit.structures.sample import Sample


class RandomRotation(Transform):
    """Turn counter-clockwise, as one sees the image. Boxes become tight around outlines and masks where there are some,
    else around their own turned corners.

    Args:
        angle: in degrees: the smallest and the largest, or those to choose from.
        expand: whether the canvas grows to hold the whole image; else it keeps its size.
        center: what stays in place, as shares of width and height: the smallest and the largest x, y, or those to
            choose from; null is the middle. Without effect if the canvas grows.
        sample_style: "range" draws from between two values, "choice" takes one of those given.
        fill: grey value of what lies outside the image.
    """

    def __init__(
        self,
        angle: Sequence[float],
        expand: bool = True,
        center: Sequence[tuple[float, float]] | None = None,
        sample_style: Literal["range", "choice"] = "range",
        fill: int = 0,
    ) -> None:
        if sample_style not in ("range", "choice"):
            raise ValueError(f"sample_style is {sample_style!r}; it must be 'range' or 'choice'")
        if sample_style == "range":
            check_range("angle", angle)
            if center is not None and len(center) != 2:
                raise ValueError(f"center is {list(center)}; two places are needed, the smallest x, y and the largest")
        elif not angle or (center is not None and not center):
            raise ValueError("angle and center must have at least one value to choose from")
        check_grey("fill", fill)
        self.angle = tuple(angle)
        self.expand = expand
        self.center = None if center is None else tuple(center)
        self.sample_style = sample_style
        self.fill = fill

    def __call__(self, sample: Sample) -> Sample:
        angle = number(*self.angle) if self.sample_style == "range" else one_of(self.angle)
        x, y = 0.5, 0.5
        if self.center is not None and self.sample_style == "range":
            (x1, y1), (x2, y2) = self.center
            x, y = number(x1, x2), number(y1, y2)
        elif self.center is not None:
            x, y = one_of(self.center)
        return rotated(sample, angle, self.expand, (x, y), self.fill)


def rotated(
    sample: Sample, angle: float, expand: bool = True, center: tuple[float, float] = (0.5, 0.5), fill: int = 0
) -> Sample:
    """The sample turned counter-clockwise by an angle in degrees, exactly if it is a multiple of a right angle and the
    canvas may grow."""
    if angle % 360 == 0:
        return sample
    height, width = sample.image.shape[-2:]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    if angle % 90 == 0:
        cos, sin = float(round(cos)), float(round(sin))
    size, about = (height, width), (center[0] * width, center[1] * height)
    middle = about
    if expand:
        size = round(abs(height * cos) + abs(width * sin)), round(abs(width * cos) + abs(height * sin))
        about, middle = (width / 2, height / 2), (size[1] / 2, size[0] / 2)
    matrix = _about(((cos, sin), (-sin, cos)), about, middle)
    return warped(sample, matrix, size, fill)


class RandomExtent(Transform):
    """Cut out a part of the image that is larger or smaller than it and shifted; what is outside is filled.

    Args:
        scale_range: the smallest and the largest size of the part, as a share of the image's.
        shift_range: how far its centre may lie from the image's at most, in x and y, as shares of width and height: the
            shift is drawn from minus to plus half of it.
        fill: grey value of what lies outside the image.
    """

    def __init__(
        self, scale_range: tuple[float, float], shift_range: tuple[float, float] = (0.0, 0.0), fill: int = 0
    ) -> None:
        check_range("scale_range", scale_range, 1e-3)
        check_grey("fill", fill)
        if min(shift_range) < 0:
            raise ValueError(f"shift_range is {shift_range}; shares of width and height, 0 or more, are needed")
        self.scale_range = scale_range
        self.shift_range = shift_range
        self.fill = fill

    def __call__(self, sample: Sample) -> Sample:
        height, width = sample.image.shape[-2:]
        scale = number(*self.scale_range)
        x = width * (0.5 + self.shift_range[0] * number(-0.5, 0.5))
        y = height * (0.5 + self.shift_range[1] * number(-0.5, 0.5))
        size = max(1, int(height * scale)), max(1, int(width * scale))
        # The part is of height * scale pixels and a fraction: what comes out is of whole ones.
        across, down = size[1] / (width * scale), size[0] / (height * scale)
        return warped(sample, _about(((across, 0), (0, down)), (x, y), (size[1] / 2, size[0] / 2)), size, self.fill)


class RandomAffine(Transform):
    """Turn, scale, shear and shift about the middle of the image, as training of YOLO does after a mosaic.

    Args:
        degrees: the angle is drawn from minus to plus so many degrees.
        translate: shifts in x and y are drawn from minus to plus so much, as shares of the width and height that come
            out.
        scale: the smallest and the largest scale.
        shear: in degrees, drawn from minus to plus so many, in x and in y.
        size: height and width of what comes out, in pixels, around the middle; null keeps the image's.
        fill: grey value of what lies outside the image.
        p: the probability of all this; else what is around the middle is cut out.
    """

    def __init__(
        self,
        degrees: float = 0.0,
        translate: float = 0.1,
        scale: tuple[float, float] = (0.5, 1.5),
        shear: float = 0.0,
        size: tuple[int, int] | None = None,
        fill: int = 114,
        p: float = 1.0,
    ) -> None:
        check_range("scale", scale, 1e-3)
        check_probability("p", p)
        check_grey("fill", fill)
        if not 0 <= shear < 90 or degrees < 0 or translate < 0:
            raise ValueError(f"degrees {degrees}, translate {translate}, shear {shear}: 0 or more, shear below 90")
        if size is not None and min(size) < 1:
            raise ValueError(f"size is {size}; height and width in pixels, at least 1, are needed")
        self.degrees = degrees
        self.translate = translate
        self.scale = scale
        self.shear = shear
        self.size = size
        self.fill = fill
        self.p = p

    def __call__(self, sample: Sample) -> Sample:
        old = tuple(sample.image.shape[-2:])
        height, width = size = self.size or (old[0], old[1])
        linear, shift = ((1.0, 0.0), (0.0, 1.0)), (0.0, 0.0)
        if chance(self.p):
            angle, scale = math.radians(number(-self.degrees, self.degrees)), number(*self.scale)
            across, down = (math.tan(math.radians(number(-self.shear, self.shear))) for _ in range(2))
            cos, sin = scale * math.cos(angle), scale * math.sin(angle)
            linear = ((cos + down * sin, across * cos + sin), (down * cos - sin, cos - across * sin))
            shift = (width * number(-self.translate, self.translate), height * number(-self.translate, self.translate))
        elif size == old:
            return sample
        middle = (width / 2 + shift[0], height / 2 + shift[1])
        return warped(sample, _about(linear, (old[1] / 2, old[0] / 2), middle), size, self.fill)


class RandomPivotScaling(Transform):
    """Scale about a place of the image drawn at random, which stays where it is; the size of the canvas too.

    Args:
        scales: to choose from.
        fill: grey value of what lies outside the image.
    """

    def __init__(self, scales: Sequence[float], fill: int = 0) -> None:
        check_grey("fill", fill)
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales is {list(scales)}; numbers above 0 are needed")
        self.scales = tuple(scales)
        self.fill = fill

    def __call__(self, sample: Sample) -> Sample:
        height, width = sample.image.shape[-2:]
        pivot, scale = (number(0, width), number(0, height)), one_of(self.scales)
        return warped(sample, _about(((scale, 0), (0, scale)), pivot, pivot), (height, width), self.fill)


def _about(
    linear: tuple[tuple[float, float], tuple[float, float]], old: tuple[float, float], new: tuple[float, float]
) -> Matrix:
    """The affine map with this linear part that takes the place `old` (x, y) to `new`."""
    (a, b), (d, e) = linear
    return ((a, b, new[0] - a * old[0] - b * old[1]), (d, e, new[1] - d * old[0] - e * old[1]))
