"""Arithmetic on the colours of images, by the definitions of torchvision and Detectron2 but several times as fast.

A chain of operations is done on one part of the image after the other, small enough for the processor's cache, as
float32 planes: large intermediate images cost more than the arithmetic. Every operation ends in whole numbers from 0 to
255, rounded down, as torchvision's do, so that the result of each differs by one grey level at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

Operation = tuple[Callable[..., Tensor], Any]
"""A function of this module, and how much of it."""

GREY = (0.2989, 0.587, 0.114)
"""What red, green and blue add to the brightness of a pixel (ITU-R BT.601)."""

_PART = 1 << 16  # pixels at a time


def changed(image: Tensor, operations: Sequence[Operation]) -> tv_tensors.Image:
    """An image (3, H, W) uint8 after some operations, laid out in memory as it was."""
    by_pixel = image.stride(0) == 1 and image.stride(2) == 3
    layout = torch.preserve_format if by_pixel else torch.contiguous_format
    found = image.as_subclass(Tensor).clone(memory_format=layout)
    planes = found.permute(1, 2, 0).view(-1, 3).T if by_pixel else found.view(3, -1)
    stage: list[_Step] = []
    for function, value in operations:
        if function in _OF_ALL:  # the image as it is by now decides
            _run(planes, stage)
            stage = [(function, (value, _mean(found, grey=function is contrast)))]
        else:
            stage.append((function, (value,)))
    _run(planes, stage)
    return tv_tensors.Image(found)


def brightness(planes: Tensor, factor: float) -> Tensor:
    """Blend with black."""
    return planes.mul_(factor)


def added(planes: Tensor, factor: Sequence[float]) -> Tensor:
    """Add a number to each of the three colours."""
    return planes.add_(torch.tensor(tuple(factor))[:, None])


def contrast(planes: Tensor, factor: float, mean: float) -> Tensor:
    """Blend with the mean brightness of the image."""
    return planes.mul_(factor).add_((1 - factor) * mean)


def contrast_of_colours(planes: Tensor, factor: float, mean: float) -> Tensor:
    """Blend with the mean of all numbers of the image, as Detectron2 does."""
    return contrast(planes, factor, mean)


def saturation(planes: Tensor, factor: float) -> Tensor:
    """Blend with the grey image."""
    grey = _grey(planes).mul_(1 - factor)
    return planes.mul_(factor).add_(grey)


def saturation_of_colours(planes: Tensor, factor: float) -> Tensor:
    """Blend with the grey image, which is not rounded, as Detectron2 does."""
    red, green, blue = planes
    grey = (red * 0.299).add_(green, alpha=0.587).add_(blue, alpha=0.114).mul_(1 - factor)
    return planes.mul_(factor).add_(grey)


def saturation_hsv(planes: Tensor, factor: float) -> Tensor:
    """Multiply the saturation of HSV, at most to 1: the distance of each number from the largest of its pixel."""
    largest = planes.amax(dim=0)
    chroma = largest - planes.amin(dim=0)
    stretch = (largest / chroma.clamp_(min=1)).clamp_(max=factor)
    return planes.sub_(largest).mul_(stretch).add_(largest + 0.5)


def hue(planes: Tensor, factor: float) -> Tensor:
    """Turn the colour circle (the hexagon of HSV) by a share of a turn, from -0.5 to 0.5.

    With the smallest of the three numbers m, the largest m + C and the hue h, in sixths from 0 to 6, red is
    m + C clamp(|h - 3| - 1, 0, 1), green m + C clamp(2 - |h - 2|, 0, 1), blue m + C clamp(2 - |h - 4|, 0, 1). All of it
    is computed times C, so that nothing is divided, and grey, of which C is 0, stays grey.
    """
    red, green, blue = planes
    largest = torch.maximum(torch.maximum(red, green), blue)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    chroma = largest - smallest
    share = torch.empty_like(chroma)  # 0.0 and 1.0 in place of booleans, which are slow
    angle = torch.add(red - green, chroma, alpha=4)
    angle.lerp_(torch.add(blue - red, chroma, alpha=2), torch.eq(green, largest, out=share))
    angle.lerp_(green - blue, torch.eq(red, largest, out=share)).add_(chroma, alpha=6 * factor)
    turns = (angle / (chroma * 6).clamp_(min=1)).floor_()
    angle.addcmul_(turns, chroma, value=-6)
    for plane, middle, sign in ((red, 3, 1), (green, 2, -1), (blue, 4, -1)):
        share = torch.sub(angle, chroma, alpha=middle).abs_().mul_(sign).add_(chroma, alpha=-1 if sign > 0 else 2)
        torch.add(smallest, torch.minimum(share.clamp_(min=0), chroma), out=plane)
    return planes.mul_(255.999 / 255)  # torchvision's way of rounding what was from 0 to 1


def permuted(planes: Tensor, factor: Sequence[int]) -> Tensor:
    """The three colours in another order."""
    return planes[list(factor)]


_OF_ALL = (contrast, contrast_of_colours)  # these need to know all of the image
_BY_NUMBER = (brightness, *_OF_ALL)  # these do not tell colours apart

_Step = tuple[Callable[..., Tensor], tuple[Any, ...]]


def _run(planes: Tensor, stage: Sequence[_Step]) -> None:
    """Take the steps on planes (3, P) uint8, in place."""
    if not stage:
        return
    if all(function in _BY_NUMBER for function, _ in stage):  # as the numbers lie in memory
        for part in (planes.T if planes.stride(0) == 1 else planes).reshape(-1).split(3 * _PART):
            part.copy_(_taken(part.float(), stage).to(torch.int16))  # far faster than from float32
        return
    for part in planes.split(_PART, dim=1):
        for room, plane in zip(part.numpy(), _taken(_apart(part), stage).numpy(), strict=True):
            room[:] = plane


def _taken(numbers: Tensor, stage: Sequence[_Step]) -> Tensor:
    """Numbers after the steps, each cut to 0 to 255 and rounded down; but for the last, as what follows is a conversion
    to whole numbers."""
    for place, (function, arguments) in enumerate(stage, 1):
        numbers = function(numbers, *arguments).clamp_(0, 255)
        if place < len(stage):
            numbers.floor_()
    return numbers


def _apart(part: Tensor) -> Tensor:
    """Planes (3, P) uint8 as float32, one after the other in memory. NumPy is the fastest at it."""
    numbers = torch.empty(part.shape)
    for room, plane in zip(numbers.numpy(), part.numpy(), strict=True):
        room[:] = plane
    return numbers


def _mean(image: Tensor, grey: bool) -> float:
    """The mean brightness of an image (3, H, W) uint8, or that of all its numbers."""
    pixels = image.permute(1, 2, 0)
    # Rows are added up as they lie in memory, where that is pixel by pixel, which is twice as fast as by colour.
    if pixels.is_contiguous():
        sums = pixels.reshape(len(pixels), -1).sum(dim=0, dtype=torch.int32).view(-1, 3).sum(dim=0)
    else:
        sums = image.sum(dim=1, dtype=torch.int32).sum(dim=1)
    colours = (sums / image[0].numel()).tolist()
    return _brightness(colours) if grey else sum(colours) / 3


def _brightness(colours: Sequence[float]) -> float:
    """That of the mean of many colours. Each of them is rounded down, which is half a grey level on average."""
    return max(0.0, sum(share * colour for share, colour in zip(GREY, colours, strict=True)) - 0.5)


def _grey(planes: Tensor) -> Tensor:
    """The brightness (P,) of planes (3, P), rounded down."""
    red, green, blue = planes
    return (red * GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2]).floor_()
