"""From what heads predict for regions to detections."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from detkit.interfaces import RoiSamples
from detkit.ops.nms import batched_nms


def select_detections(
    samples: RoiSamples,
    probabilities: Tensor,
    deltas: Tensor,
    decode: Callable[[Tensor, Tensor], Tensor],
    *,
    score_threshold: float,
    nms_iou: float,
    detections_per_image: int,
    candidates: int,
) -> RoiSamples:
    """The best detections after suppression within each class, highest score first, zeros where there is none.

    Args:
        samples: regions with `boxes` (B, N, 4), or (B, N, 5) rotated, and `valid` (B, N).
        probabilities: (B, N, classes). A region counts only if all of them, and all of its deltas, are finite.
        deltas: (B, N, classes, 4 or 5), or (B, N, 1, 4 or 5) where all classes have the same box.
        decode: boxes (B, C, 4 or 5) and their deltas -> detected boxes (B, C, 4 or 5), clipped to the images.
        score_threshold: detections need a higher score.
        nms_iou: overlap above which the lower score of a class goes.
        detections_per_image: the most detections of an image, D.
        candidates: the most (region, class) pairs of an image that are decoded and enter suppression, best first.

    Returns:
        boxes (B, D, 4 or 5), valid, scores and labels (B, D).
    """
    classes, boxes_per_region = probabilities.shape[2], deltas.shape[2]
    finite = deltas.flatten(2).isfinite().all(dim=2) & probabilities.isfinite().all(dim=2)
    good = (samples.valid & finite)[..., None] & (probabilities > score_threshold)
    ranked = torch.where(good, probabilities, -1.0).flatten(1)
    best = ranked.topk(min(candidates, ranked.shape[1]), dim=1)
    region, label = best.indices // classes, best.indices % classes
    box_of = region if boxes_per_region == 1 else best.indices
    boxes = decode(_rows(samples.boxes, region), _rows(deltas.flatten(1, 2), box_of))
    keep = batched_nms(boxes, best.values, label, best.values >= 0, nms_iou)
    final = torch.where(keep, best.values, -1.0).topk(min(detections_per_image, keep.shape[1]), dim=1)
    valid = keep.gather(1, final.indices)
    return RoiSamples(
        boxes=torch.where(valid[..., None], _rows(boxes, final.indices), 0.0),
        valid=valid,
        scores=final.values.clamp(min=0),
        labels=torch.where(valid, label.gather(1, final.indices), 0),
    )


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """values (B, N, D) at index (B, C) -> (B, C, D)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))
