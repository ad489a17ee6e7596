"""Place masks predicted on a grid inside each box into the image."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_PIXELS = 1 << 25  # soft pixels held at a time: 128 MB of float32


def paste_masks(masks: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Soft masks (N, M, M) in their boxes (N, 4) xyxy -> binary masks (N, H, W) bool of an image of size (H, W).

    Every image pixel's centre is looked up bilinearly in the mask's grid, which is 0 outside; a pixel belongs to the
    mask from `threshold` on. The look-up is separable, hence two small matrix products for each mask.
    """
    height, width = image_size
    out = torch.empty(len(masks), height, width, dtype=torch.bool, device=masks.device)
    step = max(1, CHUNK_PIXELS // max(1, height * width))
    for start in range(0, len(masks), step):
        part = slice(start, start + step)
        rows = _grid_weights(boxes[part, 1], boxes[part, 3], height, masks.shape[-2])
        columns = _grid_weights(boxes[part, 0], boxes[part, 2], width, masks.shape[-1])
        torch.ge(rows @ masks[part].float() @ columns.mT, threshold, out=out[part])
    return out


def _grid_weights(low: Tensor, high: Tensor, length: int, cells: int) -> Tensor:
    """Bilinear weights (N, length, cells) of the mask's cells at the centres of `length` pixels."""
    centers = torch.arange(length, device=low.device, dtype=torch.float32) + 0.5
    position = (centers - low[:, None]) / (high - low)[:, None] * cells - 0.5
    cell = torch.arange(cells, device=low.device, dtype=torch.float32)
    return (1 - (position[..., None] - cell).abs()).clamp(min=0)
