"""Place masks predicted on a grid inside each box into the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHUNK_PIXELS = 1 << 25  # soft pixels held at a time: 128 MB of float32


def paste_masks(masks: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Soft masks (N, M, M) in their boxes (N, 4) xyxy -> binary masks (N, H, W) bool of an image of size (H, W).

    Every image pixel's centre is looked up bilinearly in the mask's grid, which is 0 outside; a pixel belongs to the
    mask from `threshold` on. The look-up is separable, hence two small matrix products for each mask.
    """
    one_by_one = masks.device.type == "cpu" and threshold > 0  # else pixels that no box reaches belong to the mask too
    return (_paste_one_by_one if one_by_one else _paste_together)(masks, boxes, image_size, threshold)


def _paste_together(masks: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float) -> Tensor:
    """All pixels of the image for many masks at a time, without waiting for the device."""
    height, width = image_size
    out = torch.empty(len(masks), height, width, dtype=torch.bool, device=masks.device)
    step = max(1, CHUNK_PIXELS // max(1, height * width))
    for start in range(0, len(masks), step):
        part = slice(start, start + step)
        rows = _grid_weights(boxes[part, 1], boxes[part, 3], (0, height), masks.shape[-2])
        columns = _grid_weights(boxes[part, 0], boxes[part, 2], (0, width), masks.shape[-1])
        torch.ge(rows @ masks[part].float() @ columns.mT, threshold, out=out[part])
    return out


def _paste_one_by_one(masks: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float) -> Tensor:
    """Each mask in the part of the image that it reaches: on a CPU, time goes with the pixels."""
    height, width = image_size
    out = torch.zeros(len(masks), height, width, dtype=torch.bool)
    for mask, pasted, box in zip(masks.float(), out, boxes.float(), strict=True):
        x0, y0, x1, y1 = box.tolist()
        top, bottom = _reach(y0, y1, height, mask.shape[0])
        left, right = _reach(x0, x1, width, mask.shape[1])
        rows = _grid_weights(box[1:2], box[3:4], (top, bottom), mask.shape[0])[0]
        columns = _grid_weights(box[0:1], box[2:3], (left, right), mask.shape[1])[0]
        torch.ge(rows @ mask @ columns.T, threshold, out=pasted[top:bottom, left:right])
    return out


def _reach(low: float, high: float, length: int, cells: int) -> tuple[int, int]:
    """The pixels, from the first to behind the last, whose centres a grid reaches: half a cell more than its box."""
    more = abs(high - low) / (2 * cells) + 1
    first = math.floor(min(length, max(0, min(low, high) - more)))
    return first, max(first, math.ceil(min(length, max(0, max(low, high) + more))))


def _grid_weights(low: Tensor, high: Tensor, pixels: tuple[int, int], cells: int) -> Tensor:
    """Bilinear weights (N, P, cells) of a grid at the centres of P pixels, from the first to behind the last."""
    centers = torch.arange(*pixels, device=low.device, dtype=torch.float32) + 0.5
    position = (centers - low[:, None]) / (high - low)[:, None] * cells - 0.5
    cell = torch.arange(cells, device=low.device, dtype=torch.float32)
    return (1 - (position[..., None] - cell).abs()).clamp(min=0)
