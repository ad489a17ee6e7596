"""Weighted bidirectional pyramid (Tan et al., EfficientDet: Scalable and Efficient Object Detection, 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from det_backbones.pyramid import level_name, pyramid_inputs, upsample_onto
from detkit.interfaces import Neck
from detkit.layers import Conv, Norm, init_linear
from detkit.structures.shape import Shape

EPSILON = 1e-4  # in the sum of weights, which may all have become 0


class Fusion(nn.Module):
    """Maps of one size become one: their mean with learned weights ("fast normalised fusion": each weight, not below
    0, divided by their sum), then swish, a separable 3x3 convolution and a norm."""

    def __init__(self, count: int, channels: int, norm: Norm) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(count))
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = Conv(channels, channels, 1, norm=norm)
        init_linear(self.depthwise)
        init_linear(self.pointwise)

    def forward(self, *maps: Tensor) -> Tensor:
        weights = F.relu(self.weights)
        shares = (weights / (weights.sum() + EPSILON)).unbind()
        fused = maps[0] * shares[0]
        for each, share in zip(maps[1:], shares[1:], strict=True):
            fused = fused + each * share
        found: Tensor = self.pointwise(self.depthwise(F.silu(fused)))
        return found


class BiFPNLayer(nn.Module):
    """Once from the coarsest level down to the finest and back. On the way back a level between those two joins three
    maps: its input, what it was on the way down, and the finer level, halved by max pooling."""

    def __init__(self, levels: int, channels: int, norm: Norm) -> None:
        super().__init__()
        self.down = nn.ModuleList(Fusion(2, channels, norm) for _ in range(levels - 1))
        self.up = nn.ModuleList(Fusion(2 if level == levels - 1 else 3, channels, norm) for level in range(1, levels))

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """As many maps (B, channels, H, W) as there are levels, finest first, to maps of the same shapes."""
        coarsest = len(inputs) - 1
        passed = [inputs[-1]]
        for level in reversed(range(coarsest)):
            own = inputs[level]
            passed.insert(0, self.down[level](own, upsample_onto(passed[0], own)))
        outputs = [passed[0]]
        for level in range(1, coarsest + 1):
            finer = F.max_pool2d(outputs[-1], kernel_size=3, stride=2, padding=1)
            between = () if level == coarsest else (passed[level],)
            outputs.append(self.up[level - 1](inputs[level], *between, finer))
        return outputs


class BiFPN(Neck):
    """Maps p<log2 stride> of equal width, to and fro between which information goes several times. EfficientDet has
    strides 8 to 32 and two levels above, 64 channels and 3 layers (D0) to 384 and 8 (D7).

    D2Go has keys for such a neck (`MODEL.BIFPN`), but has not published it. By their names: DEPTH_MULTIPLIER scales
    `layers`; SCALE_FACTOR scales `channels`, which then are a multiple of WIDTH_DIVISOR; NORM is `norm`; and
    TOP_BLOCK_BEFORE_FPN is true here, where the extra levels take part in the fusion.

    Args:
        input_shapes: of the backbone's maps, strides doubling from each to the next.
        in_features: the maps to use; all by default.
        channels: of every output.
        layers: how often it goes down and up.
        extra_levels: levels above the coarsest map: that map brought to `channels`, then max pooled, once for each.
        norm: of every convolution; "" gives them a bias instead.

    Raises:
        ValueError: a map is wanted that there is not, strides do not double, there are less than two levels, or no
            layers.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        in_features: Sequence[str] | None = None,
        channels: int = 64,
        layers: int = 3,
        extra_levels: int = 1,
        norm: Norm = "bn",
    ) -> None:
        super().__init__()
        inputs = pyramid_inputs("BiFPN", input_shapes, in_features)
        if extra_levels < 0 or len(inputs) + extra_levels < 2:
            raise ValueError(
                f"BiFPN has {len(inputs)} maps and extra_levels {extra_levels}; it needs two levels at least: "
                "more of in_features, or extra_levels"
            )
        if layers < 1:
            raise ValueError(f"layers is {layers}; BiFPN needs 1 at least")
        self.in_features = tuple(inputs)
        self.lateral = nn.ModuleList(Conv(shape.channels, channels, 1, norm=norm) for shape in inputs.values())
        self.extra = Conv(inputs[self.in_features[-1]].channels, channels, 1, norm=norm) if extra_levels else None
        for module in (*self.lateral, *([] if self.extra is None else [self.extra])):
            init_linear(module)
        strides = [shape.stride for shape in inputs.values()]
        self._divisor = strides[-1]
        strides += [strides[-1] * 2**number for number in range(1, extra_levels + 1)]
        self._shapes = {level_name(stride): Shape(channels, stride) for stride in strides}
        self.layers = nn.Sequential(*(BiFPNLayer(len(strides), channels, norm) for _ in range(layers)))

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def divisor(self) -> int:
        return self._divisor

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        maps = [lateral(features[name]) for lateral, name in zip(self.lateral, self.in_features, strict=True)]
        if self.extra is not None:
            top = self.extra(features[self.in_features[-1]])
            while len(maps) < len(self._shapes):
                top = F.max_pool2d(top, kernel_size=3, stride=2, padding=1)
                maps.append(top)
        return dict(zip(self._shapes, self.layers(maps), strict=True))
