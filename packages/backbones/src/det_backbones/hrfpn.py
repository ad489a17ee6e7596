"""The pyramid of high-resolution networks (Sun et al., High-Resolution Representations for Labeling Pixels and
Regions, 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from det_backbones.arguments import check_choice
from det_backbones.pyramid import level_name, pyramid_inputs
from detkit.interfaces import Neck
from detkit.layers import Conv, Norm, init_linear, init_relu_conv, make_norm
from detkit.structures.shape import Shape


class HRFPN(Neck):
    """All maps, upsampled to the finest and concatenated, are brought to `channels` and pooled to one map for each
    level, which a 3x3 convolution makes that level's output: p<log2 stride>, of equal width.

    The paper upsamples bilinearly, brings the channels down by one 1x1 convolution and pools by means. In DensePose
    all of that is learned: `resampling: learned` with `norm: bn`. What DensePose loses at the lower and right borders,
    where its maps become smaller than the others, is kept here; its levels p1 to p5 are p2 to p6.

    Args:
        input_shapes: of the backbone's maps, strides doubling from each to the next.
        in_features: the maps to use; all by default.
        channels: of every output.
        levels: number of outputs, the first of the finest map's stride.
        resampling: how maps are brought to another size. "avg" or "max": bilinear interpolation up, and pooling down,
            by means or maxima. "learned": transposed 4x4 convolutions up, and for each level a strided convolution
            down in place of the 1x1, all of them with a ReLU.
        norm: of every convolution but the outputs' 3x3; "" gives them a bias instead.

    Raises:
        ValueError: a map is wanted that there is not, strides do not double, or there are no levels.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        in_features: Sequence[str] | None = None,
        channels: int = 256,
        levels: int = 5,
        resampling: Literal["avg", "max", "learned"] = "avg",
        norm: Norm = "",
    ) -> None:
        super().__init__()
        inputs = pyramid_inputs("HRFPN", input_shapes, in_features)
        if levels < 1:
            raise ValueError(f"levels is {levels}; HRFPN needs 1 at least")
        check_choice("resampling", resampling, ("avg", "max", "learned"))
        self.in_features = tuple(inputs)
        self.resampling = resampling
        shapes = list(inputs.values())
        finest, width = shapes[0].stride, sum(shape.channels for shape in shapes)
        strides = [finest * 2**number for number in range(levels)]
        self._shapes = {level_name(stride): Shape(channels, stride) for stride in strides}
        self._divisor = max(shapes[-1].stride, strides[-1])
        if resampling == "learned":
            self.upsample = nn.ModuleList(_transposed(shape.channels, shape.stride // finest, norm) for shape in shapes)
            self.pool = nn.ModuleList(_strided(width, channels, 2**number, norm) for number in range(levels))
        else:
            self.reduce = Conv(width, channels, 1, norm=norm)
            init_linear(self.reduce)
        self.output = nn.ModuleList(Conv(channels, channels, 3) for _ in range(levels))
        for each in self.output:
            init_linear(each)  # type: ignore[arg-type]

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def divisor(self) -> int:
        return self._divisor

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        maps = [features[name] for name in self.in_features]
        levels = self._learned(maps) if self.resampling == "learned" else self._pooled(maps)
        return {name: output(level) for name, output, level in zip(self._shapes, self.output, levels, strict=True)}

    def _pooled(self, maps: list[Tensor]) -> list[Tensor]:
        high = [
            each if number == 0 else F.interpolate(each, scale_factor=2.0**number, mode="bilinear", align_corners=False)
            for number, each in enumerate(maps)
        ]
        reduced = self.reduce(torch.cat(high, dim=1))
        pool = F.avg_pool2d if self.resampling == "avg" else F.max_pool2d
        return [reduced, *(pool(reduced, 2**number) for number in range(1, len(self._shapes)))]

    def _learned(self, maps: list[Tensor]) -> list[Tensor]:
        height, width = maps[0].shape[-2:]
        high = [up(each)[..., :height, :width] for up, each in zip(self.upsample, maps, strict=True)]
        joined = torch.cat(high, dim=1)
        return [pool(joined) for pool in self.pool]


def _transposed(channels: int, factor: int, norm: Norm) -> nn.Sequential:
    """Every position becomes factor x factor ones, or a few more at the end, by a 4x4 kernel."""
    conv = nn.ConvTranspose2d(channels, channels, 4, factor, output_padding=max(0, factor - 4), bias=not norm)
    return _with_norm_and_relu(conv, norm)


def _strided(in_channels: int, out_channels: int, factor: int, norm: Norm) -> nn.Sequential:
    """Every factor x factor positions become one."""
    return _with_norm_and_relu(nn.Conv2d(in_channels, out_channels, factor, factor, bias=not norm), norm)


def _with_norm_and_relu(conv: nn.Conv2d | nn.ConvTranspose2d, norm: Norm) -> nn.Sequential:
    init_relu_conv(conv)
    layer = make_norm(norm, conv.out_channels)
    return nn.Sequential(conv, *([] if layer is None else [layer]), nn.ReLU(inplace=True))
