"""ROIAlign over a feature pyramid (He et al., Mask R-CNN, 2017; level assignment of Lin et al., FPN, 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from detkit.ops.boxes import box_sides


def assign_levels(
    boxes: Tensor, levels: int, finest: int, *, canonical_size: float = 224, canonical_level: int = 4
) -> Tensor:
    """The pyramid level (N,) int64 in [0, levels) of each box (N, 4 or 5): a box of `canonical_size` pixels belongs to
    `canonical_level`, one twice as large to the next. `finest` is log2 of the stride of level 0."""
    width, height = box_sides(boxes)
    area = width.clamp(min=0) * height.clamp(min=0)
    level = torch.floor(canonical_level + torch.log2(area.sqrt() / canonical_size + 1e-8))
    return level.clamp(finest, finest + levels - 1).to(torch.int64) - finest


def pyramid_roi_align(
    features: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    *,
    size: int,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Features of regions, each taken from one level.

    Args:
        features: maps (B, C, H_l, W_l), finest first; strides: input pixels per feature pixel of each.
        boxes: (R, 4) xyxy pixels of the padded images; images: (R,) int64 index into the batch; levels: (R,) int64.
        size: of the output grid.
        sampling_ratio: bilinear samples per bin and axis; 0 takes as many as the bin has pixels, rounded up.
        aligned: pixel centres are at half-integers (True), or Detectron's convention of 2017 (False: no half-pixel
            shift, and a region is at least one feature pixel wide).

    Returns:
        (R, C, size, size).
    """
    if sampling_ratio > 0 and boxes.device.type == "cpu":
        return _gathered_roi_align(features, strides, boxes, images, levels, size, sampling_ratio, aligned)
    pooled = None
    for level, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        # Every level sees every region, as an empty one at the origin where it belongs elsewhere, and what it makes
        # of that is masked: the count of a level's regions would have to be waited for.
        mine = (levels == level)[:, None]
        rois = torch.cat([images[:, None].to(boxes.dtype), torch.where(mine, boxes, 0.0)], dim=1)
        # in the boxes' precision: bfloat16 holds no coordinate beyond 256 exactly, and the operator wants one type
        part = roi_align(feature.to(rois.dtype), rois, size, 1 / stride, sampling_ratio, aligned).to(feature.dtype)
        part = torch.where(mine[:, :, None, None], part, 0.0) if len(features) > 1 else part
        pooled = part if pooled is None else pooled + part
    assert pooled is not None
    return pooled


def _gathered_roi_align(
    features: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    size: int,
    ratio: int,
    aligned: bool,
) -> Tensor:
    """ROIAlign as one weighted sum of rows of a table that holds the pixels of all levels and images.

    A bin is the mean of ratio x ratio bilinear samples, so a sum of 4 * ratio^2 pixels, whose weights are products of a
    vertical and a horizontal one. `embedding_bag` sums rows in parallel and at memory speed; torchvision's operator
    runs on one thread of a CPU and is 10 to 20 times slower.
    """
    channels = features[0].shape[1]
    table = torch.cat([feature.permute(0, 2, 3, 1).reshape(-1, channels) for feature in features])
    heights, widths, starts, start = [], [], [], 0
    for feature in features:
        heights.append(feature.shape[2])
        widths.append(feature.shape[3])
        starts.append(start)
        start += feature.shape[0] * feature.shape[2] * feature.shape[3]
    height = torch.tensor(heights)[levels]
    width = torch.tensor(widths)[levels]
    first = torch.tensor(starts)[levels] + images * height * width
    scaled = boxes / torch.tensor(strides, dtype=boxes.dtype)[levels][:, None] - (0.5 if aligned else 0.0)
    x0, y0, x1, y1 = scaled.unbind(1)
    if not aligned:
        x1, y1 = torch.maximum(x1, x0 + 1), torch.maximum(y1, y0 + 1)
    rows, row_weights = _bilinear_taps(y0, y1, height, size, ratio)
    columns, column_weights = _bilinear_taps(x0, x1, width, size, ratio)
    index = (first[:, None, None] + rows * width[:, None, None])[:, :, None, :, None] + columns[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    taps = (2 * ratio) ** 2
    pooled = F.embedding_bag(
        index.reshape(-1, taps), table, mode="sum", per_sample_weights=weights.reshape(-1, taps).to(table.dtype)
    )
    return pooled.view(len(boxes), size, size, channels).permute(0, 3, 1, 2)


def _bilinear_taps(low: Tensor, high: Tensor, length: Tensor, bins: int, ratio: int) -> tuple[Tensor, Tensor]:
    """Pixels and weights (R, bins, 2 * ratio) along one axis of `length` (R,) pixels. Samples more than one pixel
    outside count 0, others are clamped to the border."""
    step = (torch.arange(bins * ratio, dtype=low.dtype) + 0.5) / ratio
    position = low[:, None] + step * ((high - low) / bins)[:, None]
    last = (length - 1)[:, None]
    inside = (position >= -1) & (position <= length[:, None])
    position = torch.minimum(position.clamp(min=0), last.to(low.dtype))
    pixel = torch.minimum(position.floor().to(torch.int64), last)
    fraction = position - pixel
    taps = torch.stack([pixel, torch.minimum(pixel + 1, last)], dim=-1)
    weights = torch.stack([1 - fraction, fraction], dim=-1) * (inside / ratio)[..., None]
    return taps.view(len(low), bins, -1), weights.view(len(low), bins, -1)
