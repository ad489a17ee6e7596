"""ROIAlign of rotated boxes over a feature pyramid, as Detectron2's ROIAlignRotated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_SAMPLES = 64
"""The most samples in a bin where their number follows from the region's size."""

_REGIONS = 256  # regions whose samples a CPU lists at a time: at most 100 MB for a grid of 7 x 7
_LONGEST = 1e6  # feature pixels; longer regions are not counted further


def rotated_roi_align(
    features: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    *,
    size: int,
    sampling_ratio: int = 0,
) -> Tensor:
    """Features of rotated regions, each taken from one level; differentiable with respect to the features.

    Args:
        features: maps (B, C, H_l, W_l), finest first; strides: input pixels per feature pixel of each.
        boxes: (R, 5) centre x, y, width, height in pixels of the padded images, degrees counter-clockwise; images:
            (R,) int64 index into the batch; levels: (R,) int64.
        size: of the output grid, whose rows run along the box's width.
        sampling_ratio: bilinear samples per bin and axis; 0 takes as many as the bin has pixels, rounded up, but no
            more than `MOST_SAMPLES` in a bin.

    Returns:
        (R, C, size, size). Pixel centres are at half-integers; a region of no size has zeros.
    """
    channels = features[0].shape[1]
    table = torch.cat([feature.permute(0, 2, 3, 1).reshape(-1, channels) for feature in features])
    start, first, height, width = 0, torch.zeros_like(levels), torch.zeros_like(levels), torch.zeros_like(levels)
    scale = torch.zeros_like(boxes[:, 0])
    for level, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        mine = levels == level
        area = feature.shape[2] * feature.shape[3]
        first = torch.where(mine, start + images * area, first)
        height, width = torch.where(mine, feature.shape[2], height), torch.where(mine, feature.shape[3], width)
        scale = torch.where(mine, 1 / stride, scale)
        start += feature.shape[0] * area
    angle = boxes[:, 4].float().deg2rad()
    center_x, center_y, across, down = (boxes[:, :4].float() * scale.float()[:, None]).unbind(1)
    rois = torch.stack([center_x - 0.5, center_y - 0.5, across, down, angle.cos(), angle.sin()], dim=1)
    pooled = _pool(table.float(), torch.stack([first, height, width], dim=1), rois, size, sampling_ratio)
    return pooled.view(len(boxes), size, size, channels).permute(0, 3, 1, 2).to(features[0].dtype)


@torch.library.custom_op("detkit::rotated_roi_align", mutates_args=())
def _pool(table: Tensor, maps: Tensor, rois: Tensor, size: int, ratio: int) -> Tensor:
    """(R * size * size, C) from pixels (P, C). maps (R, 3): where a region's map begins in the table, its height and
    width. rois (R, 6): centre x, y, width, height in that map's pixels, cosine and sine."""
    pooled = table.new_zeros(len(rois) * size * size, table.shape[1])
    for index, weights in _each_sample(maps, rois, size, ratio):
        pooled += F.embedding_bag(index, table, mode="sum", per_sample_weights=weights)
    return pooled


@_pool.register_kernel("cpu")
def _pool_cpu(table: Tensor, maps: Tensor, rois: Tensor, size: int, ratio: int) -> Tensor:
    pooled = [
        F.embedding_bag(index, table, starts, mode="sum", per_sample_weights=weights)
        for index, weights, starts in _listed_samples(maps, rois, size, ratio)
    ]
    return torch.cat(pooled) if pooled else table.new_zeros(0, table.shape[1])


@_pool.register_fake
def _pool_fake(table: Tensor, maps: Tensor, rois: Tensor, size: int, ratio: int) -> Tensor:
    return table.new_empty(len(rois) * size * size, table.shape[1])


@torch.library.custom_op("detkit::rotated_roi_align_backward", mutates_args=())
def _unpool(gradient: Tensor, maps: Tensor, rois: Tensor, pixels: int, size: int, ratio: int) -> Tensor:
    """The gradient (P, C) of the table."""
    of_table = gradient.new_zeros(pixels, gradient.shape[1])
    for index, weights in _each_sample(maps, rois, size, ratio):
        for pixel, weight in zip(index.unbind(1), weights.unbind(1), strict=True):
            of_table.index_add_(0, pixel, gradient * weight[:, None])
    return of_table


@_unpool.register_kernel("cpu")
def _unpool_cpu(gradient: Tensor, maps: Tensor, rois: Tensor, pixels: int, size: int, ratio: int) -> Tensor:
    of_table = gradient.new_zeros(pixels, gradient.shape[1])
    bins = gradient.split(_REGIONS * size * size)
    for part, (index, weights, starts) in zip(bins, _listed_samples(maps, rois, size, ratio), strict=True):
        ends = torch.cat([starts[1:], starts.new_tensor([len(index)])])
        bin_of = torch.repeat_interleave(ends - starts)
        places, shape = torch.stack([index, bin_of]), (pixels, len(part))
        matrix = torch.sparse_coo_tensor(places, weights, shape, check_invariants=False)
        of_table += torch.sparse.mm(matrix, part)
    return of_table


@_unpool.register_fake
def _unpool_fake(gradient: Tensor, maps: Tensor, rois: Tensor, pixels: int, size: int, ratio: int) -> Tensor:
    return gradient.new_empty(pixels, gradient.shape[1])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    table, maps, rois, ctx.size, ctx.ratio = inputs
    ctx.pixels = len(table)
    ctx.save_for_backward(maps, rois)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
    maps, rois = ctx.saved_tensors
    return _unpool(gradient.contiguous(), maps, rois, ctx.pixels, ctx.size, ctx.ratio), None, None, None, None


_pool.register_autograd(_backward, setup_context=_setup_context)


def _each_sample(maps: Tensor, rois: Tensor, size: int, ratio: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels and weights (R * size * size, 4) of one sample of every bin after the other; shapes depend on nothing
    else. Bins with fewer samples have weights of 0."""
    rows, columns = _samples_per_bin(rois, size, ratio)
    cell = torch.arange(size, device=rois.device)
    for sample in range(ratio * ratio or MOST_SAMPLES):
        row, column = sample // columns.clamp(min=1), sample % columns.clamp(min=1)
        y = (cell * rows[:, None] + row[:, None])[:, :, None].expand(-1, -1, size)
        x = (cell * columns[:, None] + column[:, None])[:, None].expand(-1, size, -1)
        region = torch.arange(len(rois), device=rois.device)[:, None, None].expand_as(x)
        index, weights = _taps(maps, rois, rows, columns, region.flatten(), y.flatten(), x.flatten(), size)
        yield index, torch.where((row < rows).repeat_interleave(size * size)[:, None], weights, 0.0)


def _listed_samples(maps: Tensor, rois: Tensor, size: int, ratio: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Pixels and weights (T,) of all samples of some regions' bins, and where each bin's begin."""
    for maps_part, part in zip(maps.split(_REGIONS), rois.split(_REGIONS), strict=True):
        rows, columns = _samples_per_bin(part, size, ratio)
        counts = (rows * columns).repeat_interleave(size * size)
        starts = counts.cumsum(0) - counts
        bin_of = torch.repeat_interleave(counts)
        sample = torch.arange(len(bin_of)) - starts[bin_of]
        region, cell = bin_of // size**2, bin_of % size**2
        y = cell // size * rows[region] + sample // columns[region]
        x = cell % size * columns[region] + sample % columns[region]
        index, weights = _taps(maps_part, part, rows, columns, region, y, x, size)
        yield index.flatten(), weights.flatten(), 4 * starts


def _samples_per_bin(rois: Tensor, size: int, ratio: int) -> tuple[Tensor, Tensor]:
    """The rows and columns (R,) of samples in the bins of regions; none where a region is of no size."""
    across, down = rois[:, 2], rois[:, 3]
    if ratio:
        rows = columns = torch.full_like(across, ratio, dtype=torch.int64)
        return rows, columns
    rows, columns = ((side / size).ceil().clamp(0, _LONGEST).to(torch.int64) for side in (down, across))
    fair = round(MOST_SAMPLES**0.5)  # of which each axis is sure; one takes more where the other needs less
    return (
        torch.minimum(rows, MOST_SAMPLES // columns.clamp(1, fair)),
        torch.minimum(columns, MOST_SAMPLES // rows.clamp(1, fair)),
    )


def _taps(
    maps: Tensor, rois: Tensor, rows: Tensor, columns: Tensor, region: Tensor, row: Tensor, column: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """The 4 pixels around samples (T,), and their weights (T, 4), which add up to 1 over a bin inside the map.

    Args:
        rows, columns: (R,) of samples in a bin.
        region: (T,) of each sample.
        row, column: (T,) of each sample in its region's grid of samples.
    """
    first, height, width = maps[region].unbind(1)
    center_x, center_y, across, down, cos, sin = rois[region].unbind(1)
    rows, columns = rows[region].clamp(min=1), columns[region].clamp(min=1)
    along_height = ((row + 0.5) / (rows * size) - 0.5) * down
    along_width = ((column + 0.5) / (columns * size) - 0.5) * across
    y = center_y + along_height * cos - along_width * sin
    x = center_x + along_height * sin + along_width * cos
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    (top, bottom, down_share), (left, right, right_share) = _neighbours(y, height), _neighbours(x, width)
    index = torch.stack([first + r * width + c for r in (top, bottom) for c in (left, right)], dim=1)
    weights = [v * h for v in (1 - down_share, down_share) for h in (1 - right_share, right_share)]
    return index, torch.stack(weights, dim=1) * (inside / (rows * columns))[:, None]


def _neighbours(position: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after positions on axes of `length` pixels, and the share of the one after."""
    last = length - 1
    position = torch.minimum(position.clamp(min=0), last.to(position.dtype))
    before = torch.minimum(position.floor().to(torch.int64), last)
    return before, torch.minimum(before + 1, last), position - before
