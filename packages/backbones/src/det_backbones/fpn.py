"""Feature pyramid network (Lin et al., Feature Pyramid Networks for Object Detection, 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from detkit.interfaces import Neck
from detkit.layers import Conv, Norm, init_linear
from detkit.structures.shape import Shape


class FPN(Neck):
    """Laterals, a top-down path, and a 3x3 convolution on each level: maps p<log2 stride> of equal width.

    Args:
        input_shapes: of the backbone's maps, strides doubling from each to the next.
        in_features: the maps to use; all by default.
        channels: of every output.
        norm: of the laterals and outputs; "" gives them a bias instead.
        extra_level: whether the coarsest map, subsampled by 2, is one more output (p6, for the RPN).
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        in_features: Sequence[str] | None = None,
        channels: int = 256,
        norm: Norm = "",
        extra_level: bool = True,
    ) -> None:
        super().__init__()
        self.in_features = tuple(in_features or input_shapes)
        missing = [name for name in self.in_features if name not in input_shapes]
        if missing:
            raise ValueError(f"FPN wants {', '.join(missing)}; the backbone gives {', '.join(input_shapes)}")
        strides = [input_shapes[name].stride for name in self.in_features]
        if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
            raise ValueError(f"FPN needs strides that double from each map to the next; got {strides}")
        self.levels = tuple(f"p{int(math.log2(stride))}" for stride in strides)
        self.lateral = nn.ModuleDict()
        self.output = nn.ModuleDict()
        for level, name in zip(self.levels, self.in_features, strict=True):
            self.lateral[level] = Conv(input_shapes[name].channels, channels, 1, norm=norm)
            self.output[level] = Conv(channels, channels, 3, norm=norm)
        for module in self.modules():
            if isinstance(module, Conv):
                init_linear(module)
        self._shapes = {level: Shape(channels, stride) for level, stride in zip(self.levels, strides, strict=True)}
        self.extra = f"p{int(math.log2(strides[-1])) + 1}" if extra_level else None
        if self.extra:
            self._shapes[self.extra] = Shape(channels, 2 * strides[-1])
        self._divisor = strides[-1]

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def divisor(self) -> int:
        return self._divisor

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        above: Tensor | None = None
        for level, name in zip(reversed(self.levels), reversed(self.in_features), strict=True):
            merged = self.lateral[level](features[name])
            if above is not None:
                merged = merged + F.interpolate(above, scale_factor=2.0, mode="nearest")
            outputs[level] = self.output[level](merged)
            above = merged
        outputs = {level: outputs[level] for level in self.levels}
        if self.extra:
            outputs[self.extra] = F.max_pool2d(outputs[self.levels[-1]], kernel_size=1, stride=2)
        return outputs
