"""Non-maximum suppression of rotated boxes, as a mask of fixed shape."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from detkit.ops.rotated_iou import SHORT, box_terms, listed_iou, may_overlap, pair_iou

_BLOCK = 256  # boxes that are settled among each other before those that stay meet the rest


def batched_rotated_nms(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """`detkit.ops.nms.batched_nms` for rotated boxes (B, N, 5): centre x, y, width, height, degrees counter-clockwise.
    Among equal scores the first stays."""
    return _rotated_nms(boxes.float(), scores.float(), groups.expand(scores.shape), valid, iou_threshold)


@torch.library.custom_op("detkit::rotated_nms", mutates_args=())
def _rotated_nms(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Box after box on the device, all images at once, which is not waited for."""
    order = torch.where(valid, scores, -torch.inf).argsort(dim=1, descending=True, stable=True)
    terms = box_terms(boxes.gather(1, order[..., None].expand(-1, -1, 5)))
    group, keep = groups.gather(1, order), valid.gather(1, order)
    for start in range(0, keep.shape[1], _BLOCK):
        block, rest = slice(start, start + _BLOCK), slice(start, None)
        covers = pair_iou(terms[:, :, block, None], terms[:, :, None, rest]) > iou_threshold
        covers &= group[:, block, None] == group[:, None, rest]
        covers = covers.triu(1)  # rows and columns begin with the same box, and the better covers the worse
        for row in range(covers.shape[1]):
            keep[:, rest] &= ~(covers[:, row] & keep[:, start + row, None])
    return torch.empty_like(keep).scatter_(1, order, keep)


@_rotated_nms.register_kernel("cpu")
def _rotated_nms_cpu(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Without what is not valid and what is suppressed already; one image after the other."""
    keep = torch.zeros_like(valid)
    for image, rows in enumerate(valid):
        order = rows.nonzero().squeeze(1)
        order = order[scores[image, order].argsort(descending=True, stable=True)]
        terms, group = box_terms(boxes[image, order]), groups[image, order]
        rest = torch.arange(len(order))
        while len(rest):
            block, rest = rest[:_BLOCK], rest[_BLOCK:]
            stays = _greedy(len(block), *_covered(terms, group, block, block, iou_threshold))
            keep[image, order[block[stays]]] = True
            gone = torch.zeros_like(rest, dtype=torch.bool)
            gone[_covered(terms, group, block[stays], rest, iou_threshold)[1]] = True
            rest = rest[~gone]
    return keep


def _covered(
    terms: Tensor, groups: Tensor, better: Tensor, worse: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """Pairs of places in `better` (N,) and in `worse` (M,) of boxes that overlap by more than the threshold, in a
    group."""
    a, b = terms.index_select(1, better), terms.index_select(1, worse)
    step = max(1, SHORT // max(1, len(worse)))
    pairs = []
    for start in range(0, len(better), step):
        part = slice(start, start + step)
        candidates = may_overlap(a[:, part], b, iou_threshold)
        candidates &= groups[better[part], None] == groups[worse]
        pairs.append(candidates.view(-1).nonzero().squeeze(1) + start * len(worse))
    found = torch.cat(pairs)
    found = found[listed_iou(a, b, found) > iou_threshold]
    return found // max(1, len(worse)), found % max(1, len(worse))


def _greedy(count: int, better: Tensor, worse: Tensor) -> Tensor:
    """Which (count,) of boxes, best first, stay, where each that stays removes those after it that it covers."""
    covers = np.zeros((count, count), dtype=bool)
    covers[better, worse] = True
    stays = np.ones(count, dtype=bool)
    for row in range(count):
        if stays[row]:
            stays[row + 1 :] &= ~covers[row, row + 1 :]
    return torch.from_numpy(stays)


@_rotated_nms.register_fake
def _rotated_nms_fake(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(valid)
