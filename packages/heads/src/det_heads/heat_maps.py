"""Keypoints as cells of a grid inside a box, and back from heat maps on that grid to points of an image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK_VALUES = 1 << 25  # of enlarged heat maps held at a time: 128 MB of float32


@torch.no_grad()
def keypoint_cells(keypoints: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The cells that keypoints fall into, of a grid of `size` x `size` cells in each box. A point on the right or lower
    edge is in the last cell.

    Args:
        keypoints: (R, K, 3) x, y, visibility; those of visibility 0 are not there.
        boxes: (R, 4) xyxy.

    Returns:
        cells (R, K) int64, row * size + column, and which are there and in the box (R, K) bool.
    """
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    points = keypoints[..., :2]
    cell = torch.floor((points - low) * (size / (high - low)))
    cell = torch.where(points == high, size - 1, cell)
    inside = ((cell >= 0) & (cell < size)).all(dim=-1) & (keypoints[..., 2] > 0)
    column, row = torch.where(inside[..., None], cell, 0).to(torch.int64).unbind(-1)
    return row * size + column, inside


def keypoints_in_boxes(heat_maps: Tensor, boxes: Tensor, extents: Tensor) -> Tensor:
    """Keypoints (N, K, 3) x, y, score in boxes (N, 4), from the logits of heat maps (N, K, S, S) on a grid in each.

    Each heat map is enlarged to the `extents` (N, 2), width and height in pixels, of its box in the image that the
    model saw, rounded up, with bicubic interpolation (Keys, 1981); the point is the centre of the highest pixel. Its
    score is what the softmax over the cells of the grid would give that height, so that scores of large and small boxes
    compare.
    """
    extents = extents.clamp(min=1).ceil().to(torch.int64)
    out = heat_maps.new_zeros(*heat_maps.shape[:2], 3)
    for block in _blocks(extents, CHUNK_VALUES // heat_maps.shape[1]):
        out[block] = _highest_points(heat_maps[block].float(), boxes[block], extents[block])
    return out


def _blocks(extents: Tensor, pixels: int) -> Iterator[Tensor]:
    """Indices of boxes of similar size, together of at most this many `pixels` when all have room for the largest."""
    order = extents.prod(dim=1).argsort()
    start, room = 0, (0, 0)
    for end, (width, height) in enumerate(extents[order].tolist()):
        room = (max(room[0], width), max(room[1], height))
        if end > start and (end + 1 - start) * room[0] * room[1] > pixels:
            yield order[start:end]
            start, room = end, (width, height)
    if len(order):
        yield order[start:]


def _highest_points(heat_maps: Tensor, boxes: Tensor, extents: Tensor) -> Tensor:
    width, height = extents.amax(dim=0).tolist()
    columns = _bicubic_weights(extents[:, 0], width, heat_maps.shape[-1])
    rows = _bicubic_weights(extents[:, 1], height, heat_maps.shape[-2])
    enlarged = rows[:, None] @ heat_maps @ columns.mT[:, None]  # (n, K, height, width)
    outside = torch.arange(height, device=boxes.device)[:, None] >= extents[:, 1, None, None]
    outside = outside | (torch.arange(width, device=boxes.device) >= extents[:, 0, None, None])
    enlarged = enlarged.masked_fill(outside[:, None], -torch.inf)
    best, index = enlarged.flatten(2).max(dim=2)
    pixel = torch.stack([index % width, index // width], dim=-1) + 0.5
    points = boxes[:, None, :2] + pixel / extents[:, None] * (boxes[:, 2:] - boxes[:, :2])[:, None]
    score = (best - heat_maps.flatten(2).logsumexp(dim=2)).exp()
    return torch.cat([points, score[..., None]], dim=-1)


def _bicubic_weights(lengths: Tensor, capacity: int, cells: int) -> Tensor:
    """Weights (N, capacity, cells) of cells at the first `lengths` (N,) of `capacity` pixels, when a row of `cells` is
    resampled to that many; what lies beyond an end of the row is like its last cell. As in torch's `interpolate`,
    a = -0.75."""
    pixel = torch.arange(capacity, device=lengths.device) + 0.5
    position = pixel * (cells / lengths.float())[:, None] - 0.5
    first = position.floor()
    weights = torch.zeros(len(lengths), capacity, cells, device=lengths.device)
    for offset in (-1, 0, 1, 2):
        cell = first + offset
        weight = _cubic((position - cell).abs())
        weights.scatter_add_(2, cell.clamp(0, cells - 1).to(torch.int64)[..., None], weight[..., None])
    return weights


def _cubic(x: Tensor, a: float = -0.75) -> Tensor:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))
