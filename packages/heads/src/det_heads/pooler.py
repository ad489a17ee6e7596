"""Region features from a feature map or a pyramid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from detkit.ops.roi_align import assign_levels, pyramid_roi_align
from detkit.structures.shape import Shape


class RoiPooler:
    """Pools each region from the level that its size asks for.

    Args:
        input_shapes: of the feature maps.
        in_features: the maps to use, finest first, strides doubling.
        size: of the output grid.
        sampling_ratio, aligned: of ROIAlign, see `detkit.ops.roi_align`.
    """

    def __init__(
        self,
        input_shapes: Mapping[str, Shape],
        in_features: Sequence[str],
        *,
        size: int,
        sampling_ratio: int,
        aligned: bool,
    ) -> None:
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
        self.size, self.sampling_ratio, self.aligned = size, sampling_ratio, aligned

    def __call__(self, features: Mapping[str, Tensor], boxes: Tensor, images: Tensor) -> Tensor:
        """Boxes (R, 4) of images (R,) -> (R, channels, size, size)."""
        maps = [features[name] for name in self.in_features]
        levels = assign_levels(boxes, len(maps), int(math.log2(self.strides[0])))
        return pyramid_roi_align(
            maps,
            self.strides,
            boxes,
            images,
            levels,
            size=self.size,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
        )


def image_index(boxes: Tensor) -> Tensor:
    """The image (B * N,) that each of the boxes (B, N, 4) belongs to, for use with `boxes.flatten(0, 1)`."""
    return torch.arange(boxes.shape[0], device=boxes.device).repeat_interleave(boxes.shape[1])
