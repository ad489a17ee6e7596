"""Blur, as of cameras and objects that move."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torchvision import tv_tensors

from detkit.data.transforms.draws import chance, check_probability, integer, number
from detkit.interfaces import Transform
from detkit.ops.boxes import upright_boxes
from detkit.structures.sample import Sample


class RandomMotionBlur(Transform):
    """Smear the image along a straight line of random length and direction. Its middle stays in place, and so does all
    that is known of the image.

    Args:
        kernel_size: the smallest and the largest length of the line in pixels.
        only_instances: smear what is inside of the boxes alone, each along a line of its own, as of objects that move
            before a camera that stands still.
        p: the probability of blur; with `only_instances` that of each instance.
    """

    def __init__(self, kernel_size: tuple[int, int] = (3, 7), only_instances: bool = False, p: float = 0.5) -> None:
        check_probability("p", p)
        if not 1 <= kernel_size[0] <= kernel_size[1] <= 127:
            raise ValueError(f"kernel_size is {kernel_size}; two lengths in pixels from 1 to 127, the smaller first")
        self.kernel_size = kernel_size
        self.only_instances = only_instances
        self.p = p

    def __call__(self, sample: Sample) -> Sample:
        height, width = sample.image.shape[-2:]
        parts = [[0, 0, width, height]]
        if self.only_instances:
            boxes = upright_boxes(sample.target["boxes"].as_subclass(Tensor))
            limit = boxes.new_tensor((width, height, width, height))
            parts = torch.minimum(boxes.round().clamp(min=0), limit).int().tolist()
        pixels = None
        for left, top, right, bottom in parts:
            if chance(self.p) and left < right and top < bottom:
                if pixels is None:
                    pixels = sample.image.as_subclass(Tensor).permute(1, 2, 0).clone()
                part = pixels[top:bottom, left:right]
                part.copy_(_smeared(part, integer(*self.kernel_size), number(0, math.pi)))
        return sample if pixels is None else replace(sample, image=tv_tensors.Image(pixels.permute(2, 0, 1)))


def _smeared(pixels: Tensor, length: int, radians: float) -> Tensor:
    """The mean of pixels (H, W, 3) uint8 at `length` places along a line; beyond the border are those at it."""
    height, width = pixels.shape[:2]
    reach = length // 2
    rows, columns = (torch.arange(-reach, side + reach).clamp_(0, side - 1) for side in (height, width))
    around = pixels.to(torch.int16).index_select(0, rows).index_select(1, columns)
    total = torch.full((height, width, 3), length // 2, dtype=torch.int16)  # so that the mean is rounded
    for step in range(-reach, length - reach):
        x, y = reach + round(step * math.cos(radians)), reach - round(step * math.sin(radians))
        total.add_(around[y : y + height, x : x + width])
    return total.float().div_(length).to(torch.int16)
