"""Rotated boxes (..., 5): centre x, y, width, height in pixels, degrees counter-clockwise as one sees the image."""

from __future__ import annotations

import torch
from torch import Tensor

UPRIGHT = 1.0  # degrees; boxes that are turned by no more are clipped to the image, as in Detectron2


def wrapped(degrees: Tensor) -> Tensor:
    """Angles from -180 to below 180 degrees."""
    return (degrees + 180) % 360 - 180


def clip_rotated_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (B, N, 5), those within 1 degree of upright clipped to the image sizes (B, 2) height, width. Others cannot
    be clipped to another rectangle of the same angle without losing what is inside, and stay as they are."""
    x, y, width, height, angle = boxes.unbind(-1)
    angle = wrapped(angle)
    limit_y, limit_x = sizes.to(boxes.dtype)[..., None, :].unbind(-1)
    clipped = []
    for center, side, limit in ((x, width, limit_x), (y, height, limit_y)):
        low = (center - side / 2).clamp(min=0).minimum(limit)
        high = (center + side / 2).clamp(min=0).minimum(limit)
        clipped.append(((low + high) / 2, torch.minimum(side, high - low)))  # rounding makes no box longer
    (new_x, new_width), (new_y, new_height) = clipped
    upright = (angle.abs() <= UPRIGHT)[..., None]
    new = torch.stack([new_x, new_y, new_width, new_height, angle], dim=-1)
    return torch.where(upright, new, torch.stack([x, y, width, height, angle], dim=-1))


def scale_rotated_boxes(boxes: Tensor, scale_x: float | Tensor, scale_y: float | Tensor) -> Tensor:
    """Boxes (..., 5) of an image in pixels of its resized copy. Where the scales differ a box becomes a parallelogram:
    its sides are as long as that one's, and its angle is that of the side along its height."""
    x, y, width, height, angle = boxes.unbind(-1)
    cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
    width = width * torch.hypot(scale_x * cos, scale_y * sin)
    height = height * torch.hypot(scale_x * sin, scale_y * cos)
    turned = torch.atan2(scale_x * sin, scale_y * cos).rad2deg()
    return torch.stack([scale_x * x, scale_y * y, width, height, turned], dim=-1)
