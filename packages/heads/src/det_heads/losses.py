"""Losses that several heads use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from detkit.ops.boxes import box_area, decode_boxes, encode_boxes

BoxLoss = Literal["smooth_l1", "giou", "diou", "ciou"]

_EPS = 1e-7  # of the denominators, as in fvcore


def smooth_l1(prediction: Tensor, target: Tensor, beta: float) -> Tensor:
    """Elementwise |d| - beta / 2, and d^2 / (2 beta) where |d| < beta (Girshick, Fast R-CNN, 2015); L1 for beta 0."""
    difference = (prediction - target).abs()
    if beta < 1e-5:
        return difference
    return torch.where(difference < beta, 0.5 * difference * difference / beta, difference - 0.5 * beta)


def box_loss(
    deltas: Tensor,
    sources: Tensor,
    targets: Tensor,
    foreground: Tensor,
    *,
    kind: BoxLoss,
    weights: Sequence[float],
    beta: float,
) -> Tensor:
    """The regression loss of each box (...), 0 where it is not foreground; finite there whatever the boxes are.

    Args:
        deltas: predicted (..., 4), or (..., 5) of rotated boxes, which smooth L1 alone compares.
        sources: anchors or proposals (..., 4) xyxy or (..., 5) that the deltas move.
        targets: ground truth (..., 4 or 5).
        foreground: (...) bool.
        kind: "smooth_l1" compares deltas; "giou" (Rezatofighi et al., 2019), "diou" and "ciou" (Zheng et al., 2020)
            compare the moved boxes.
        weights: of the (dx, dy, dw, dh) parametrisation.
        beta: of smooth L1.
    """
    unit = (torch.arange(deltas.shape[-1], device=deltas.device) > 1).to(
        deltas.dtype
    )  # padding may have no size, nor a logarithm
    sources = torch.where(foreground[..., None], sources, unit)
    targets = torch.where(foreground[..., None], targets, unit)
    if kind == "smooth_l1":
        loss = smooth_l1(deltas, encode_boxes(sources, targets, weights), beta).sum(dim=-1)
    else:
        loss = iou_loss(decode_boxes(sources, deltas, weights), targets, kind)
    return torch.where(foreground, loss, 0.0)


def iou_loss(boxes: Tensor, targets: Tensor, kind: Literal["giou", "diou", "ciou"]) -> Tensor:
    """1 - IoU and a penalty (...) for pairs of xyxy boxes (..., 4): "giou", the share of the enclosing box that is in
    neither (Rezatofighi et al., 2019); "diou", the squared distance of the centres over that of the enclosing box's
    corners; "ciou", besides it the difference of the aspect ratios (Zheng et al., 2020)."""
    overlap = (
        (torch.minimum(boxes[..., 2:], targets[..., 2:]) - torch.maximum(boxes[..., :2], targets[..., :2]))
        .clamp(min=0)
        .prod(dim=-1)
    )
    union = box_area(boxes) + box_area(targets) - overlap
    iou = overlap / (union + _EPS)
    around = torch.maximum(boxes[..., 2:], targets[..., 2:]) - torch.minimum(boxes[..., :2], targets[..., :2])
    if kind == "giou":
        hull = around.prod(dim=-1)
        return 1 - iou + (hull - union) / (hull + _EPS)
    apart = (boxes[..., :2] + boxes[..., 2:] - targets[..., :2] - targets[..., 2:]) / 2
    loss = 1 - iou + apart.square().sum(dim=-1) / (around.square().sum(dim=-1) + _EPS)
    if kind == "diou":
        return loss
    slopes = [torch.atan2(each[..., 2] - each[..., 0], each[..., 3] - each[..., 1]) for each in (boxes, targets)]
    ratio = (4 / math.pi**2) * (slopes[1] - slopes[0]).square()
    with torch.no_grad():
        weight = ratio / (1 - iou + ratio + _EPS)
    return loss + weight * ratio
