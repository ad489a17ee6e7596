"""Boxes as xyxy pixels: areas, overlaps, clipping, and the (dx, dy, dw, dh) parametrisation of R-CNN."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000.0 / 16)  # a decoded side is at most 62.5 times its anchor's, so that exp cannot overflow


def box_area(boxes: Tensor) -> Tensor:
    """Areas (...) of xyxy boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (..., N, M) of xyxy boxes a (..., N, 4) and b (..., M, 4); 0 where both are empty."""
    # Coordinate by coordinate, each in a row of its own: a third of the time and half of the memory of (..., N, M, 2).
    ax0, ay0, ax1, ay1 = (side[..., :, None] for side in a.unbind(-1))
    bx0, by0, bx1, by1 = (side[..., None, :] for side in b.mT.contiguous().unbind(-2))
    overlap = (torch.minimum(ax1, bx1) - torch.maximum(ax0, bx0)).clamp(min=0)
    overlap = overlap * (torch.minimum(ay1, by1) - torch.maximum(ay0, by0)).clamp(min=0)
    union = box_area(a)[..., :, None] + box_area(b)[..., None, :] - overlap
    return overlap / union.clamp(min=torch.finfo(overlap.dtype).tiny)


def clip_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (B, N, 4) clipped to the image sizes (B, 2) height, width."""
    height, width = sizes[:, None, 0].to(boxes.dtype), sizes[:, None, 1].to(boxes.dtype)
    zero = torch.zeros_like(height)
    x0, y0, x1, y1 = boxes.unbind(-1)

    def clip(value: Tensor, high: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(value, zero), high)

    return torch.stack([clip(x0, width), clip(y0, height), clip(x1, width), clip(y1, height)], dim=-1)


def encode_boxes(anchors: Tensor, boxes: Tensor, weights: Sequence[float]) -> Tensor:
    """Deltas (..., 4) that turn `anchors` (..., 4) into `boxes` (..., 4): centre shifts in units of the anchor's size
    and log ratios of the sizes, times `weights` (Girshick, Fast R-CNN, 2015). Both need positive sizes."""
    width, height = anchors[..., 2] - anchors[..., 0], anchors[..., 3] - anchors[..., 1]
    center_x, center_y = anchors[..., 0] + 0.5 * width, anchors[..., 1] + 0.5 * height
    box_width, box_height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    box_x, box_y = boxes[..., 0] + 0.5 * box_width, boxes[..., 1] + 0.5 * box_height
    wx, wy, ww, wh = weights
    return torch.stack(
        [
            wx * (box_x - center_x) / width,
            wy * (box_y - center_y) / height,
            ww * torch.log(box_width / width),
            wh * torch.log(box_height / height),
        ],
        dim=-1,
    )


def decode_boxes(anchors: Tensor, deltas: Tensor, weights: Sequence[float]) -> Tensor:
    """The inverse of `encode_boxes`, in float32; log ratios are capped at MAX_LOG_SCALE."""
    anchors, deltas = anchors.float(), deltas.float()
    width, height = anchors[..., 2] - anchors[..., 0], anchors[..., 3] - anchors[..., 1]
    center_x, center_y = anchors[..., 0] + 0.5 * width, anchors[..., 1] + 0.5 * height
    wx, wy, ww, wh = weights
    x = deltas[..., 0] / wx * width + center_x
    y = deltas[..., 1] / wy * height + center_y
    half_width = 0.5 * torch.exp((deltas[..., 2] / ww).clamp(max=MAX_LOG_SCALE)) * width
    half_height = 0.5 * torch.exp((deltas[..., 3] / wh).clamp(max=MAX_LOG_SCALE)) * height
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], dim=-1)
