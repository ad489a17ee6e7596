"""RegNet (Radosavovic et al., Designing Network Design Spaces, 2020): residual networks whose widths follow a line, X,
and the same with squeeze-and-excitation (Hu et al., 2018), Y."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from det_backbones.arguments import check_freeze_at
from det_backbones.staged import StagedBackbone
from detkit.layers import Conv, Norm, init_relu_conv
from detkit.structures.shape import Shape

STAGES = ("s1", "s2", "s3", "s4")

SIZES: Mapping[str, Mapping[str, Any]] = {
    "x_200mf": {"depth": 13, "w_a": 36.44, "w_0": 24, "w_m": 2.49, "group_width": 8},
    "x_400mf": {"depth": 22, "w_a": 24.48, "w_0": 24, "w_m": 2.54, "group_width": 16},
    "x_600mf": {"depth": 16, "w_a": 36.97, "w_0": 48, "w_m": 2.24, "group_width": 24},
    "x_800mf": {"depth": 16, "w_a": 35.73, "w_0": 56, "w_m": 2.28, "group_width": 16},
    "x_1_6gf": {"depth": 18, "w_a": 34.01, "w_0": 80, "w_m": 2.25, "group_width": 24},
    "x_3_2gf": {"depth": 25, "w_a": 26.31, "w_0": 88, "w_m": 2.25, "group_width": 48},
    "x_4gf": {"depth": 23, "w_a": 38.65, "w_0": 96, "w_m": 2.43, "group_width": 40},
    "x_6_4gf": {"depth": 17, "w_a": 60.83, "w_0": 184, "w_m": 2.07, "group_width": 56},
    "x_8gf": {"depth": 23, "w_a": 49.56, "w_0": 80, "w_m": 2.88, "group_width": 120},
    "x_12gf": {"depth": 19, "w_a": 73.36, "w_0": 168, "w_m": 2.37, "group_width": 112},
    "x_16gf": {"depth": 22, "w_a": 55.59, "w_0": 216, "w_m": 2.1, "group_width": 128},
    "x_32gf": {"depth": 23, "w_a": 69.86, "w_0": 320, "w_m": 2.0, "group_width": 168},
    "y_200mf": {"depth": 13, "w_a": 36.44, "w_0": 24, "w_m": 2.49, "group_width": 8, "se_ratio": 0.25},
    "y_400mf": {"depth": 16, "w_a": 27.89, "w_0": 48, "w_m": 2.09, "group_width": 8, "se_ratio": 0.25},
    "y_600mf": {"depth": 15, "w_a": 32.54, "w_0": 48, "w_m": 2.32, "group_width": 16, "se_ratio": 0.25},
    "y_800mf": {"depth": 14, "w_a": 38.84, "w_0": 56, "w_m": 2.4, "group_width": 16, "se_ratio": 0.25},
    "y_1_6gf": {"depth": 27, "w_a": 20.71, "w_0": 48, "w_m": 2.65, "group_width": 24, "se_ratio": 0.25},
    "y_3_2gf": {"depth": 21, "w_a": 42.63, "w_0": 80, "w_m": 2.66, "group_width": 24, "se_ratio": 0.25},
    "y_4gf": {"depth": 22, "w_a": 31.41, "w_0": 96, "w_m": 2.24, "group_width": 64, "se_ratio": 0.25},
    "y_6_4gf": {"depth": 25, "w_a": 33.22, "w_0": 112, "w_m": 2.27, "group_width": 72, "se_ratio": 0.25},
    "y_8gf": {"depth": 17, "w_a": 76.82, "w_0": 192, "w_m": 2.19, "group_width": 56, "se_ratio": 0.25},
    "y_12gf": {"depth": 19, "w_a": 73.36, "w_0": 168, "w_m": 2.37, "group_width": 112, "se_ratio": 0.25},
    "y_16gf": {"depth": 18, "w_a": 106.23, "w_0": 200, "w_m": 2.48, "group_width": 112, "se_ratio": 0.25},
    "y_32gf": {"depth": 20, "w_a": 115.89, "w_0": 232, "w_m": 2.53, "group_width": 232, "se_ratio": 0.25},
}
"""The paper's networks, RegNetX and RegNetY of so many (multiply and add) operations -> arguments of `RegNet`."""


def stage_widths(depth: int, w_a: float, w_0: int, w_m: float, group_width: int) -> list[tuple[int, int, int]]:
    """Width, group width and number of blocks of each stage (section 3.3 and appendix of the paper).

    Block j of the network has a width near `w_0 + w_a * j`: the nearest that is `w_0` times a power of `w_m`, as a
    multiple of 8. Blocks of one width are a stage, whose width is rounded once more, to a multiple of its group width.

    Raises:
        ValueError: an argument out of range.
    """
    if depth < 1 or w_a < 0 or w_0 < 8 or w_0 % 8 or w_m <= 1 or group_width < 1:
        raise ValueError(
            f"depth {depth}, w_a {w_a}, w_0 {w_0}, w_m {w_m}, group_width {group_width}: a RegNet has a depth and a "
            "group_width of 1 or more, a w_a of 0 or more, a w_0 that is a multiple of 8, and a w_m above 1"
        )
    powers = (round(math.log((w_0 + w_a * block) / w_0) / math.log(w_m)) for block in range(depth))
    widths = [round(w_0 * w_m**power / 8) * 8 for power in powers]
    stages = []
    for width, blocks in groupby(widths):
        group = min(group_width, width)
        stages.append((max(1, round(width / group)) * group, group, len(list(blocks))))
    return stages


class Block(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolutions of one width, and a shortcut: the X block, with `squeezed` channels in its
    squeeze-and-excitation the Y block."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, groups: int, squeezed: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, channels, 1, norm=norm, relu=True)
        self.conv2 = Conv(channels, channels, 3, stride=stride, groups=groups, norm=norm, relu=True)
        self.excite = SqueezeExcitation(channels, squeezed) if squeezed else None
        self.conv3 = Conv(channels, channels, 1, norm=norm)
        projected = in_channels != channels or stride != 1
        self.shortcut = Conv(in_channels, channels, 1, stride=stride, norm=norm) if projected else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        x = self.conv2(self.conv1(x))
        if self.excite is not None:
            x = self.excite(x)
        return F.relu(self.conv3(x).add_(shortcut), inplace=True)


class RegNet(StagedBackbone):
    """RegNetX and RegNetY without their classifier. The defaults are RegNetX-4GF; the other published sizes are in
    `SIZES`, and `regnetx-1-6gf-dds` and so on are their weights.

    Args:
        depth: the number of blocks in all stages together.
        w_a: by how many channels each block is wider than the one before it, before widths are rounded.
        w_0: width of the first block, a multiple of 8.
        w_m: by what factor each stage is wider than the one before it, about.
        group_width: channels of each group of the 3x3 convolutions.
        se_ratio: channels in squeeze-and-excitation, as a part of those that come into the block: 0.25 in RegNetY, 0
            (no such layer) in RegNetX.
        stem_width: channels of the stem, a 3x3 convolution of stride 2.
        norm: of every convolution. "frozen_bn" suits pretrained weights and small batches; training from scratch needs
            "gn", "bn" or "sync_bn".
        freeze_at: the stem (1) and the stages up to s<freeze_at - 1> are constants in training; 0 trains everything.
        out_features: the stages to return, of s1, s2, s3, s4. Stages after the last are not built.

    Raises:
        ValueError: an argument out of range, or widths that make more or fewer than four stages.

    `forward` takes images (B, 3, H, W) of any size, and returns (B, C, H / stride, W / stride), rounded up, for each
    of `out_features`, of stride 4, 8, 16, 32; 80, 240, 560 and 1360 channels wide in RegNetX-4GF.
    """

    def __init__(
        self,
        *,
        depth: int = 23,
        w_a: float = 38.65,
        w_0: int = 96,
        w_m: float = 2.43,
        group_width: int = 40,
        se_ratio: float = 0.0,
        stem_width: int = 32,
        norm: Norm = "frozen_bn",
        freeze_at: int = 0,
        out_features: Sequence[str] = STAGES,
    ) -> None:
        super().__init__(STAGES, out_features)
        check_freeze_at(freeze_at, ("stem", *STAGES))
        stages = stage_widths(depth, w_a, w_0, w_m, group_width)
        if len(stages) != len(STAGES):
            widths = ", ".join(str(width) for width, _, _ in stages)
            raise ValueError(
                f"depth {depth}, w_a {w_a}, w_0 {w_0} and w_m {w_m} make stages of widths {widths}; a RegNet has four"
            )
        if not 0 <= se_ratio <= 1:
            raise ValueError(f"se_ratio is {se_ratio}; it must be from 0 (no squeeze-and-excitation) to 1")
        self.stem = Conv(3, stem_width, 3, stride=2, norm=norm, relu=True)
        in_channels, stride = stem_width, 2
        for name, (width, group, count) in zip(self.stages, stages, strict=False):
            blocks = []
            for step in (2, *[1] * (count - 1)):
                squeezed = round(in_channels * se_ratio)
                blocks.append(
                    Block(in_channels, width, stride=step, groups=width // group, squeezed=squeezed, norm=norm)
                )
                in_channels = width
            stride *= 2
            self.add_stage(name, nn.Sequential(*blocks), Shape(width, stride))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init_relu_conv(module)
        self.freeze_parts(freeze_at)
