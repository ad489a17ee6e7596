"""Feature pyramid network (Lin et al., Feature Pyramid Networks for Object Detection, 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from det_backbones.arguments import check_choice
from det_backbones.pyramid import level_name, pyramid_inputs, upsample_onto
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
        fuse: how a lateral and what comes from above become one map, "sum" or "avg".
        top: what is above the pyramid. "pool": the coarsest map subsampled by 2 (p6, for the RPN). The name of a map
            of the coarsest stride, the backbone's or the pyramid's: two convolutions of stride 2 on it (p6 and p7, of
            res5 in RetinaNet, of p5 in FCOS). "": nothing.

    Raises:
        ValueError: a map is wanted that there is not, strides do not double, `top` is of another stride, or `fuse` is
            neither of the two.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        in_features: Sequence[str] | None = None,
        channels: int = 256,
        norm: Norm = "",
        fuse: Literal["sum", "avg"] = "sum",
        top: str = "pool",
    ) -> None:
        super().__init__()
        check_choice("fuse", fuse, ("sum", "avg"))
        inputs = pyramid_inputs(type(self).__name__, input_shapes, in_features)
        self.in_features = tuple(inputs)
        strides = [shape.stride for shape in inputs.values()]
        self.levels = tuple(level_name(stride) for stride in strides)
        self.fuse = fuse
        self.lateral = nn.ModuleDict()
        self.output = nn.ModuleDict()
        for level, name in zip(self.levels, self.in_features, strict=True):
            self.lateral[level] = Conv(input_shapes[name].channels, channels, 1, norm=norm)
            self.output[level] = Conv(channels, channels, 3, norm=norm)
        self._shapes = {level: Shape(channels, stride) for level, stride in zip(self.levels, strides, strict=True)}
        self._divisor = strides[-1]
        self.top_input = top
        count = {"": 0, "pool": 1}.get(top, 2)
        self.top_levels = tuple(level_name(strides[-1] * 2**number) for number in range(1, count + 1))
        if count == 2:
            source = {**input_shapes, **self._shapes}.get(top)
            if source is None or source.stride != strides[-1]:
                raise ValueError(
                    f"top is {top!r}; choose 'pool', '' or a map of stride {strides[-1]}: "
                    f"{self.in_features[-1]} or {self.levels[-1]}"
                )
            widths = (source.channels, channels, channels)
            convs = [Conv(a, b, 3, stride=2) for a, b in pairwise(widths)]
            self.top = nn.ModuleDict(dict(zip(self.top_levels, convs, strict=True)))
        for number, level in enumerate(self.top_levels, 1):
            self._shapes[level] = Shape(channels, strides[-1] * 2**number)
        for module in self.modules():
            if isinstance(module, Conv):
                init_linear(module)

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def divisor(self) -> int:
        return self._divisor

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.with_top(features, self.pyramid(features))

    def pyramid(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The levels that have a lateral, finest first."""
        outputs: dict[str, Tensor] = {}
        above: Tensor | None = None
        for level, name in zip(reversed(self.levels), reversed(self.in_features), strict=True):
            merged = self.lateral[level](features[name])
            if above is not None:
                merged = merged + upsample_onto(above, merged)
                if self.fuse == "avg":
                    merged = merged / 2
            outputs[level] = self.output[level](merged)
            above = merged
        return {level: outputs[level] for level in self.levels}

    def with_top(self, features: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The levels of a pyramid, and those above them."""
        outputs = dict(outputs)
        if self.top_input == "pool":
            outputs[self.top_levels[0]] = F.max_pool2d(outputs[self.levels[-1]], kernel_size=1, stride=2)
        elif self.top_input:
            sixth, seventh = self.top_levels
            outputs[sixth] = self.top[sixth]({**features, **outputs}[self.top_input])
            outputs[seventh] = self.top[seventh](F.relu(outputs[sixth]))
        return outputs
