"""Assign candidate boxes to ground truth by overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.ops.boxes import box_iou

CHUNK = 1 << 16  # candidates per block: 300 ground-truth boxes x 65,536 candidates are 80 MB


@torch.no_grad()
def match_boxes(
    boxes: Tensor, valid: Tensor, candidates: Tensor, *, low: float, high: float, keep_best: bool = False
) -> tuple[Tensor, Tensor]:
    """Match candidates to ground truth by their highest IoU.

    Args:
        boxes: ground truth (B, G, 4) xyxy; valid: (B, G), False for padding.
        candidates: (N, 4), the same for all images, or (B, N, 4).
        low, high: IoU in [high, 1] is foreground, [0, low) background, between them ignored.
        keep_best: each ground truth's best candidates (all that tie) are foreground however low their overlap is, if
            they overlap at all.

    Returns:
        labels (B, N) int8: 1 foreground, 0 background, -1 ignored; index (B, N) of the best ground truth (0 without
        any).
    """
    candidates = candidates.expand(len(boxes), -1, 4)
    blocks = candidates.split(CHUNK, dim=1)

    def overlaps(block: Tensor) -> Tensor:  # (B, G, n); -1 where there is no ground truth
        return torch.where(valid[..., None], box_iou(boxes, block), -1.0)

    best_values, best_index = [], []
    best_of_box = torch.full(valid.shape, -1.0, device=boxes.device, dtype=boxes.dtype)
    iou = boxes.new_empty(0)
    for block in blocks:  # one block but for the largest images: a bound on memory, not a loop over images
        iou = overlaps(block)
        value, index = iou.max(dim=1)
        best_values.append(value)
        best_index.append(index)
        if keep_best:
            best_of_box = torch.maximum(best_of_box, iou.amax(dim=2))
    value, index = torch.cat(best_values, dim=1), torch.cat(best_index, dim=1)
    labels = torch.where(value >= high, 1, torch.where(value < low, 0, -1)).to(torch.int8)
    if keep_best:
        target = best_of_box.clamp(min=1e-9)[..., None]
        ties = [((iou if len(blocks) == 1 else overlaps(block)) == target).any(dim=1) for block in blocks]
        labels = torch.where(torch.cat(ties, dim=1), 1, labels).to(torch.int8)
    return labels, index
