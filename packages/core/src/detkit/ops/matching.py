"""Assign candidate boxes to ground truth by overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.ops.boxes import box_iou
from detkit.ops.rotated_iou import rotated_iou

# Pairs of a ground-truth box and a candidate that are compared at a time: on a CPU so few that they stay in its cache,
# which is 10 times as fast; elsewhere so many that the device is busy (256 MB).
PAIRS = {"cpu": 1 << 20}
MOST_PAIRS = 1 << 26


@torch.no_grad()
def match_boxes(
    boxes: Tensor, valid: Tensor, candidates: Tensor, *, low: float, high: float, keep_best: bool = False
) -> tuple[Tensor, Tensor]:
    """Match candidates to ground truth by their highest IoU.

    Args:
        boxes: ground truth (B, G, 4) xyxy, or (B, G, 5) rotated; valid: (B, G), False for padding.
        candidates: (N, 4 or 5), the same for all images, or (B, N, 4 or 5).
        low, high: IoU in [high, 1] is foreground, [0, low) background, between them ignored.
        keep_best: each ground truth's best candidates (all that tie) are foreground however low their overlap is, if
            they overlap at all.

    Returns:
        labels (B, N) int8: 1 foreground, 0 background, -1 ignored; index (B, N) of the best ground truth (0 without
        any).
    """
    candidates = candidates.expand(len(boxes), -1, boxes.shape[-1])
    pairs = PAIRS.get(boxes.device.type, MOST_PAIRS)
    step = max(1, pairs // valid.numel())
    blocks = candidates.split(step, dim=1)  # a bound on memory, not a loop over images

    def overlaps(block: Tensor) -> Tensor:  # (B, G, n); -1 where there is no ground truth
        rotated = boxes.shape[-1] == 5
        iou = rotated_iou(boxes, block, detectron2_rounding=keep_best) if rotated else box_iou(boxes, block)
        return torch.where(valid[..., None], iou, -1.0)

    # Written into place: small results between large intermediates would scatter the heap.
    value = boxes.new_empty(candidates.shape[:2])
    index = torch.empty_like(value, dtype=torch.int64)
    best_of_box = torch.full_like(valid, -1.0, dtype=boxes.dtype)
    iou = boxes.new_empty(0)
    for block, values, indices in zip(blocks, value.split(step, dim=1), index.split(step, dim=1), strict=True):
        iou = overlaps(block)
        best = iou.max(dim=1)
        values.copy_(best.values)
        indices.copy_(best.indices)
        if keep_best:
            best_of_box = torch.maximum(best_of_box, iou.amax(dim=2))
    labels = torch.where(value >= high, 1, torch.where(value < low, 0, -1)).to(torch.int8)
    if keep_best:
        target = best_of_box.clamp(min=1e-9)[..., None]
        for block, found in zip(blocks, labels.split(step, dim=1), strict=True):
            ties = (iou if len(blocks) == 1 else overlaps(block)) == target
            found.masked_fill_(ties.any(dim=1), 1)
    return labels, index
