"""Boxes as xyxy pixels (..., 4), or rotated (..., 5): centre x, y, width, height, degrees counter-clockwise. Areas,
overlaps, clipping, scaling, and the (dx, dy, dw, dh) parametrisation of R-CNN, with da for rotated ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from detkit.ops.rotated_boxes import clip_rotated_boxes, scale_rotated_boxes, wrapped
from detkit.ops.rotated_iou import rotated_iou

MAX_LOG_SCALE = math.log(1000.0 / 16)  # a decoded side is at most 62.5 times its anchor's, so that exp cannot overflow


def box_area(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4 or 5)."""
    width, height = box_sides(boxes)
    return width * height


def box_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Widths and heights (...) of boxes (..., 4 or 5)."""
    if boxes.shape[-1] == 5:
        return boxes[..., 2], boxes[..., 3]
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def upright_boxes(boxes: Tensor) -> Tensor:
    """The boxes (..., 4) xyxy themselves, or the upright ones around rotated boxes (..., 5)."""
    if boxes.shape[-1] == 4:
        return boxes
    x, y, width, height, angle = boxes.unbind(-1)
    cos, sin = angle.deg2rad().cos().abs(), angle.deg2rad().sin().abs()
    across, down = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return torch.stack([x - across, y - down, x + across, y + down], dim=-1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (..., N, M) of boxes a (..., N, 4 or 5) and b (..., M, as many); 0 where both are
    empty."""
    if a.shape[-1] == 5:
        return rotated_iou(a, b)
    # Coordinate by coordinate, each in a row of its own: a third of the time and half of the memory of (..., N, M, 2).
    ax0, ay0, ax1, ay1 = (side[..., :, None] for side in a.unbind(-1))
    bx0, by0, bx1, by1 = (side[..., None, :] for side in b.mT.contiguous().unbind(-2))
    overlap = (torch.minimum(ax1, bx1) - torch.maximum(ax0, bx0)).clamp(min=0)
    overlap = overlap * (torch.minimum(ay1, by1) - torch.maximum(ay0, by0)).clamp(min=0)
    union = box_area(a)[..., :, None] + box_area(b)[..., None, :] - overlap
    return overlap / union.clamp(min=torch.finfo(overlap.dtype).tiny)


def clip_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (B, N, 4 or 5) clipped to the image sizes (B, 2) height, width; of rotated ones the upright alone, see
    `clip_rotated_boxes`."""
    if boxes.shape[-1] == 5:
        return clip_rotated_boxes(boxes, sizes)
    height, width = sizes[:, None, 0].to(boxes.dtype), sizes[:, None, 1].to(boxes.dtype)
    zero = torch.zeros_like(height)
    x0, y0, x1, y1 = boxes.unbind(-1)

    def clip(value: Tensor, high: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(value, zero), high)

    return torch.stack([clip(x0, width), clip(y0, height), clip(x1, width), clip(y1, height)], dim=-1)


def scale_boxes(boxes: Tensor, scale_x: float | Tensor, scale_y: float | Tensor) -> Tensor:
    """Boxes (..., 4 or 5) of an image in pixels of its resized copy; rotated ones as `scale_rotated_boxes` says."""
    if boxes.shape[-1] == 5:
        return scale_rotated_boxes(boxes, scale_x, scale_y)
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack([x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y], dim=-1)


def mirror_boxes(boxes: Tensor, width: float | Tensor) -> Tensor:
    """Boxes (..., 4 or 5) of an image in its mirror image, left and right exchanged."""
    if boxes.shape[-1] == 5:
        x, y, across, down, angle = boxes.unbind(-1)
        return torch.stack([width - x, y, across, down, -angle], dim=-1)
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack([width - x1, y0, width - x0, y1], dim=-1)


def resized_boxes(boxes: Tensor, size: tuple[int, int], output_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4 or 5) of an image of `size` (height, width) in its copy of `output_size`, clipped to it, and which
    (N,) have an area there."""
    scaled = scale_boxes(boxes, output_size[1] / size[1], output_size[0] / size[0])
    boxes = clip_boxes(scaled[None], scaled.new_tensor([output_size]))[0]
    width, height = box_sides(boxes)
    return boxes, (width > 0) & (height > 0)


def encode_boxes(anchors: Tensor, boxes: Tensor, weights: Sequence[float]) -> Tensor:
    """Deltas (..., 4 or 5) that turn `anchors` into `boxes`, (..., 4 or 5) both: centre shifts in units of the
    anchor's size and log ratios of the sizes (Girshick, Fast R-CNN, 2015), for rotated boxes also the turn in radians
    from -pi to pi (Ma et al., Rotation Proposals, 2018); times `weights`. Both need positive sizes."""
    (center_x, center_y, width, height, *angle) = _centred(anchors)
    (box_x, box_y, box_width, box_height, *box_angle) = _centred(boxes)
    wx, wy, ww, wh, *wa = weights
    turns = [w * torch.deg2rad(wrapped(b - a)) for w, a, b in zip(wa, angle, box_angle, strict=True)]
    return torch.stack(
        [
            wx * (box_x - center_x) / width,
            wy * (box_y - center_y) / height,
            ww * torch.log(box_width / width),
            wh * torch.log(box_height / height),
            *turns,
        ],
        dim=-1,
    )


def decode_boxes(anchors: Tensor, deltas: Tensor, weights: Sequence[float]) -> Tensor:
    """The inverse of `encode_boxes`, in float32; log ratios are capped at MAX_LOG_SCALE, angles are from -180 to 180
    degrees."""
    anchors, deltas = anchors.float(), deltas.float()
    (center_x, center_y, width, height, *angle) = _centred(anchors)
    wx, wy, ww, wh, *wa = weights
    x = deltas[..., 0] / wx * width + center_x
    y = deltas[..., 1] / wy * height + center_y
    half_width = 0.5 * torch.exp((deltas[..., 2] / ww).clamp(max=MAX_LOG_SCALE)) * width
    half_height = 0.5 * torch.exp((deltas[..., 3] / wh).clamp(max=MAX_LOG_SCALE)) * height
    if angle:
        turned = wrapped(angle[0] + torch.rad2deg(deltas[..., 4] / wa[0]))
        return torch.stack([x, y, 2 * half_width, 2 * half_height, turned], dim=-1)
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], dim=-1)


def _centred(boxes: Tensor) -> tuple[Tensor, ...]:
    """Centre x, y, width and height, each (...), of boxes (..., 4 or 5); of rotated ones the angle too."""
    if boxes.shape[-1] == 5:
        return boxes.unbind(-1)
    width, height = box_sides(boxes)
    return boxes[..., 0] + 0.5 * width, boxes[..., 1] + 0.5 * height, width, height
