"""Path aggregation (Liu et al., Path Aggregation Network for Instance Segmentation, 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from det_backbones.fpn import FPN
from detkit.layers import Conv, Norm, init_relu_conv
from detkit.structures.shape import Shape


class PANet(FPN):
    """A feature pyramid whose fine levels then reach the coarse ones by a short way: each level, halved by a 3x3
    convolution of stride 2, is added to the next, and another 3x3 convolution makes that level's output. All of these
    convolutions have a ReLU. The maps are those of `FPN`, p<log2 stride>, of which the finest stays as it is.

    Args:
        input_shapes, in_features, channels, norm, fuse: see `FPN`; the norm is of the added convolutions too.
        top: what is above, made from the outputs of this path; see `FPN`.

    Raises:
        ValueError: a map is wanted that there is not, strides do not double, or `top` is of another stride.
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
        super().__init__(
            input_shapes=input_shapes, in_features=in_features, channels=channels, norm=norm, fuse=fuse, top=top
        )
        self.halve = nn.ModuleDict()
        self.aggregate = nn.ModuleDict()
        for level in self.levels[1:]:
            halve = Conv(channels, channels, 3, stride=2, norm=norm, relu=True)
            aggregate = Conv(channels, channels, 3, norm=norm, relu=True)
            init_relu_conv(halve)
            init_relu_conv(aggregate)
            self.halve[level], self.aggregate[level] = halve, aggregate

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = self.pyramid(features)
        for fine, coarse in pairwise(self.levels):
            outputs[coarse] = self.aggregate[coarse](outputs[coarse] + self.halve[coarse](outputs[fine]))
        return self.with_top(features, outputs)
