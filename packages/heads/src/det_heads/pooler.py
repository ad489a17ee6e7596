"""Region features from a feature map or a pyramid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from detkit.interfaces import RoiSamples
from detkit.ops.compact import valid_rows
from detkit.ops.roi_align import assign_levels, pyramid_roi_align
from detkit.ops.rotated_roi_align import rotated_roi_align
from detkit.structures.shape import Shape


@dataclass(frozen=True)
class RoiPooling:
    """How regions are pooled for a trunk that all heads share.

    Args:
        input_shapes: of the feature maps.
        in_features: the maps to pool from, finest first.
        size: of the output grid.
        sampling_ratio, aligned: of ROIAlign, see `detkit.ops.roi_align`.
        inclusive: see `RoiPooler`.
    """

    input_shapes: Mapping[str, Shape]
    in_features: Sequence[str] = ("res4",)
    size: int = 14
    sampling_ratio: int = 0
    aligned: bool = True
    inclusive: bool = False

    def __post_init__(self) -> None:
        self.pooler()  # which says what is wrong

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        """What the trunk sees: `region`, of the finest map's stride."""
        return {"region": self.input_shapes[self.in_features[0]]}

    def pooler(self) -> RoiPooler:
        """What pools so."""
        return RoiPooler(
            self.input_shapes,
            self.in_features,
            size=self.size,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
            inclusive=self.inclusive,
        )


class RoiPooler:
    """Pools each region from the level that its size asks for; or takes what the detector's trunk has made of it.

    Args:
        input_shapes: of the feature maps.
        in_features: the maps to use, finest first, strides doubling. Where `input_shapes` has only `region`, a
            trunk's output, that is used, and nothing is pooled.
        size: of the output grid.
        sampling_ratio, aligned: of ROIAlign, see `detkit.ops.roi_align`.
        inclusive: regions reach to the number of their last pixel, which is one less than their right and lower edges,
            as in Detectron (2017).
    """

    def __init__(
        self,
        input_shapes: Mapping[str, Shape],
        in_features: Sequence[str],
        *,
        size: int,
        sampling_ratio: int,
        aligned: bool,
        inclusive: bool = False,
    ) -> None:
        self.shared = list(input_shapes) == ["region"]
        if self.shared:
            self.channels, self.size = input_shapes["region"].channels, size
            return
        missing = [name for name in in_features if name not in input_shapes]
        if missing or not in_features:
            raise ValueError(f"the head wants the maps {list(in_features)}; there are {', '.join(input_shapes)}")
        widths = {input_shapes[name].channels for name in in_features}
        self.strides = [input_shapes[name].stride for name in in_features]
        doubling = all(b == 2 * a for a, b in pairwise(self.strides))
        if len(widths) > 1 or not doubling:
            raise ValueError(
                f"the maps {list(in_features)} need equal channels {widths} and doubling strides {self.strides}"
            )
        self.in_features = tuple(in_features)
        self.channels = widths.pop()
        self.size, self.sampling_ratio, self.aligned, self.inclusive = size, sampling_ratio, aligned, inclusive

    def __call__(self, features: Mapping[str, Tensor], boxes: Tensor, images: Tensor) -> Tensor:
        """Boxes (R, 4 or 5) of images (R,) -> (R, channels, size, size)."""
        maps = [features[name] for name in self.in_features]
        levels = assign_levels(boxes, len(maps), int(math.log2(self.strides[0])))
        if boxes.shape[1] == 5:
            return rotated_roi_align(
                maps, self.strides, boxes, images, levels, size=self.size, sampling_ratio=self.sampling_ratio
            )
        return pyramid_roi_align(
            maps,
            self.strides,
            last_pixels(boxes) if self.inclusive else boxes,
            images,
            levels,
            size=self.size,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
        )

    def regions(self, features: Mapping[str, Tensor], samples: RoiSamples, rows: Tensor | None = None) -> Tensor:
        """Features (R, channels, size, size) of the samples' boxes, of those at `rows` (R,) of the flattened (B * N,)
        boxes if given."""
        if self.shared:
            assert samples.pooled is not None
            return samples.pooled if rows is None else samples.pooled[rows]
        boxes, images = samples.boxes.flatten(0, 1), image_index(samples.boxes)
        return self(features, boxes, images) if rows is None else self(features, boxes[rows], images[rows])


def last_pixels(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) xyxy from edge to edge -> from the number of the first pixel to that of the last."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] - 1], dim=-1)


def image_index(boxes: Tensor) -> Tensor:
    """The image (B * N,) that each of the boxes (B, N, 4) belongs to, for use with `boxes.flatten(0, 1)`."""
    return torch.arange(boxes.shape[0], device=boxes.device).repeat_interleave(boxes.shape[1])


def foreground_rows(samples: RoiSamples, num_classes: int, usable: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What a head trains on that describes objects: `foreground` (R,) bool, and the `rows` (R,) of the flattened
    (B * N,) samples that it is about, which hold every foreground sample and on a CPU nothing else. Elsewhere the rest
    of the rows repeats them, for the statistics of batch norms.

    Args:
        samples: in training, foreground first.
        num_classes: the label of background.
        usable: (B, G) bool, the ground truth to learn from; all by default.
    """
    assert samples.labels is not None and samples.target_index is not None
    part = slice(0, samples.foreground)
    foreground = samples.valid[:, part] & (samples.labels[:, part] < num_classes)
    if usable is not None:
        foreground &= usable.gather(1, samples.target_index[:, part])
    foreground = foreground.flatten()
    chosen = valid_rows(foreground)
    position = torch.arange(len(chosen), device=chosen.device)
    count = foreground.sum().clamp(min=1)
    chosen = chosen[position % count]
    width = max(1, samples.foreground)
    rows = chosen // width * samples.valid.shape[1] + chosen % width
    return foreground[chosen] & (position < count), rows


def at_rows(values: Tensor, rows: Tensor, valid: Tensor) -> Tensor:
    """Values (R, ...) at `rows` (R,), all different, of the flattened (B * N,) samples -> (B, N, ...), zeros where
    there is no value or the sample is not `valid` (B, N)."""
    values = torch.where(valid.flatten()[rows].view(-1, *[1] * (values.ndim - 1)), values, 0.0)
    return values.new_zeros(valid.numel(), *values.shape[1:]).index_copy(0, rows, values).unflatten(0, valid.shape)
