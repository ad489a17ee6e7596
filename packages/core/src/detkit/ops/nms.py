"""Non-maximum suppression of a batch, within groups (classes, pyramid levels), as a mask of fixed shape."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from detkit.ops.rotated_nms import batched_rotated_nms


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression: in each image and group, the highest score stays and boxes that overlap it by
    more than the threshold go, and so on.

    Args:
        boxes: (B, N, 4) xyxy, or (B, N, 5) rotated; scores: (B, N); groups: (B, N) or (N,) int64 from 0; valid: (B, N)
            bool.

    Returns:
        (B, N) bool: True for the valid boxes that stay.
    """
    if boxes.shape[-1] == 5:
        return batched_rotated_nms(boxes, scores, groups, valid, iou_threshold)
    return _nms(boxes.float(), scores.float(), groups.expand(scores.shape), valid, iou_threshold)


@torch.library.custom_op("detkit::nms", mutates_args=())
def _nms(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """One call for the whole batch: each image and group is shifted to where it overlaps no other. In float64, in which
    shifted coordinates stay exact. Invalid boxes have no area, so that they suppress nothing."""
    batch, count = scores.shape
    span = boxes.amax() - boxes.amin() + 1  # device scalars: no synchronisation
    image = torch.arange(batch, device=boxes.device)[:, None]
    shift = (image * (groups.amax() + 1) + groups) * span.double()
    moved = torch.where(valid[..., None], boxes.double() + shift[..., None], 0.0).view(-1, 4)
    ranked = torch.where(valid, scores, -torch.inf).double().view(-1)
    keep = torch.zeros(batch * count, dtype=torch.bool, device=boxes.device)
    keep[torchvision.ops.nms(moved, ranked, iou_threshold)] = True
    return keep.view(batch, count) & valid


@_nms.register_kernel("cpu")
def _nms_cpu(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """On a CPU the work is quadratic in the length of a call, and a call costs nothing: one for each image and
    group."""
    keep = torch.zeros_like(valid)
    for image, rows in enumerate(valid):
        order = rows.nonzero().squeeze(1)
        order = order[groups[image, order].argsort(stable=True)]
        sizes = torch.unique_consecutive(groups[image, order], return_counts=True)[1].tolist()
        for part in order.split(sizes) if sizes else ():
            keep[image, part[torchvision.ops.nms(boxes[image, part], scores[image, part], iou_threshold)]] = True
    return keep


@_nms.register_fake
def _nms_fake(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(valid)
