"""Position-sensitive pooling (Dai et al., R-FCN, 2016)."""

from __future__ import annotations

import torch
from torch import Tensor


def position_sensitive_pool(maps: Tensor, boxes: Tensor, *, stride: int, grid: int) -> Tensor:
    """Each cell of a grid on a box is the mean of a map of its own, over the map's cells that it touches; 0 where it
    touches none. Corners are rounded to pixels, as in R-FCN's and Detectron's code; torchvision's `ps_roi_pool` rounds
    them to cells of the map.

    A matrix product for each cell of the grid, so that neither the pass forward nor the pass back needs a kernel.

    Args:
        maps: (B, C * grid * grid, H, W); the maps of a channel lie together, row after row of the grid.
        boxes: (B, N, 4) xyxy, in pixels.
        stride: of the maps.
        grid: cells along a side.

    Returns:
        (B, N, C, grid, grid).
    """
    maps = maps.unflatten(1, (-1, grid, grid))
    x0, y0, x1, y1 = (boxes.round() / stride).unbind(dim=-1)
    rows = _shares(y0, y1, grid, maps.shape[4]).to(maps.dtype)
    columns = _shares(x0, x1, grid, maps.shape[5]).to(maps.dtype)
    cells = [
        (rows[:, :, i, :, None] * columns[:, :, j, None, :]).flatten(2) @ maps[:, :, i, j].flatten(2).mT
        for i in range(grid)
        for j in range(grid)
    ]
    return torch.stack(cells, dim=-1).unflatten(-1, (grid, grid))


def _shares(begin: Tensor, end: Tensor, grid: int, size: int) -> Tensor:
    """How much each of `size` cells of a map contributes to each of `grid` equal parts of the spans from begin to end
    (B, N): (B, N, grid, size), rows that sum to 1, or to 0 for a part that lies outside."""
    fractions = torch.arange(grid + 1, device=begin.device) / grid
    edges = begin[..., None] + (end - begin).clamp(min=0.1)[..., None] * fractions
    first, last = edges[..., :-1].floor().clamp(0, size), edges[..., 1:].ceil().clamp(0, size)
    cell = torch.arange(size, device=begin.device)
    inside = (cell >= first[..., None]) & (cell < last[..., None])
    return inside / (last - first).clamp(min=1)[..., None]
