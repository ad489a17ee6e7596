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


def given_anchors(boxes: Sequence[Sequence[Sequence[float]]], features: Sequence[str]) -> list[Tensor]:
    """Anchors (A, 4 or 5) around the origin for each of the feature maps, from nested lists.

    Raises:
        ValueError: not one list of boxes for each map, all of the same length, or boxes of no size.
    """
    counts = sorted({len(level) for level in boxes})
    numbers = {len(box) for level in boxes for box in level}
    if len(boxes) != len(features) or len(counts) != 1 or numbers not in ({4}, {5}):
        raise ValueError(
            f"anchor_boxes has {len(boxes)} lists of {counts} boxes; give one list for each map "
            f"({', '.join(features)}), all with as many boxes [x0, y0, x1, y1]"
        )
    if flat := [list(box) for level in boxes for box in level if min(_sides(box)) <= 0]:
        raise ValueError(f"anchor_boxes has {flat[0]}, which has no area; boxes are [x0, y0, x1, y1]")
    return [torch.tensor(level, dtype=torch.float32) for level in boxes]


def _sides(box: Sequence[float]) -> Sequence[float]:
    """Width and height of a box of 4 numbers, xyxy, or 5, rotated."""
    return box[2:4] if len(box) == 5 else (box[2] - box[0], box[3] - box[1])


def grid_anchors(cell: Tensor, height: int, width: int, stride: int, offset: float) -> Tensor:
    """Anchors (height * width * A, 4 or 5): `cell` (A, 4 or 5) at every point of a grid of this stride, row by row. The
    first point is `offset` strides from the corner."""
    x = (torch.arange(width, device=cell.device, dtype=torch.float32) + offset) * stride
    y = (torch.arange(height, device=cell.device, dtype=torch.float32) + offset) * stride
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    if cell.shape[1] == 5:
        still = torch.zeros_like(grid_x)
        shift = torch.stack([grid_x, grid_y, still, still, still], dim=-1)
    else:
        shift = torch.stack([grid_x, grid_y, grid_x, grid_y], dim=-1)
    return (shift.view(-1, 1, cell.shape[1]) + cell).view(-1, cell.shape[1])
