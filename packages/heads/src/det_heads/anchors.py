"""Anchor boxes on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """Anchors (len(sizes) * len(aspect_ratios), 4) xyxy around the origin: area size^2, ratio height / width; all
    ratios of the first size come first."""
    boxes = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = (size * size / ratio) ** 0.5
            height = ratio * width
            boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(boxes)


def grid_anchors(cell: Tensor, height: int, width: int, stride: int, offset: float) -> Tensor:
    """Anchors (height * width * A, 4): `cell` (A, 4) at every point of a grid of this stride, row by row. The first
    point is `offset` strides from the corner."""
    x = (torch.arange(width, device=cell.device, dtype=torch.float32) + offset) * stride
    y = (torch.arange(height, device=cell.device, dtype=torch.float32) + offset) * stride
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    shift = torch.stack([grid_x, grid_y, grid_x, grid_y], dim=-1).view(-1, 1, 4)
    return (shift + cell).view(-1, 4)
