"""FBNetV3 (Dai et al., FBNetV3: Joint Architecture-Recipe Search using Predictor Pretraining, 2020) as D2Go builds its
mobile detectors from it: convolutions and inverted residual blocks, in the backbone and in the heads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from det_backbones.arguments import check_choice, check_freeze_at, regions_of
from det_backbones.fbnet_archs import ARCHS, Arch, Block, Part, Stage
from det_backbones.staged import StagedBackbone
from detkit.interfaces import RoiTrunk
from detkit.layers import Conv, Norm, init_relu_conv
from detkit.structures.shape import Shape

Flavour = Literal["mobile", "imagenet"]


def divisible(channels: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `channels`, at least 95 % of it, and above 0; an integer that is a multiple
    already stays."""
    nearest = math.floor(channels / divisor + 0.5) * divisor
    return max(divisor, nearest + divisor if nearest < 0.95 * channels else nearest)


@dataclass(frozen=True, kw_only=True)
class BlockStyle:
    """What the blocks of a network have in common.

    Args:
        norm: of every convolution, but for those of a squeeze-excitation.
        flavour: "mobile": ReLU, neither norm nor activation after depthwise convolutions, sigmoid gates a quarter as
            wide as what they weigh. "imagenet": hard swish, also after depthwise convolutions, hard sigmoid gates a
            quarter as wide as the block's input.
        width: what the channels of every block are multiplied by.
        divisor: numbers of channels that follow from a factor are rounded to multiples of this one.
    """

    norm: Norm
    flavour: Flavour
    width: float
    divisor: int

    def channels(self, block: Block) -> int:
        """The channels that a block gives."""
        return block.channels if self.width == 1 else divisible(int(block.channels * self.width), self.divisor)


class ConvAct(Conv):
    """A convolution, its norm, and the activation of a flavour."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, style: BlockStyle, stride: int = 1, groups: int = 1
    ) -> None:
        relu = style.flavour == "mobile"
        super().__init__(in_channels, out_channels, kernel, stride=stride, groups=groups, norm=style.norm, relu=relu)
        self.hard_swish = not relu
        init_relu_conv(self)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return F.hardswish(x) if self.hard_swish else x


class SqueezeExcitation(nn.Module):
    """Weights channels by a function of their means (Hu et al., Squeeze-and-Excitation Networks, 2018)."""

    def __init__(self, channels: int, hidden: int, flavour: Flavour) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.hard = flavour == "imagenet"
        init_relu_conv(self.reduce)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.reduce(x.mean(dim=(2, 3), keepdim=True))
        if self.hard:
            return x * F.hardsigmoid(self.expand(F.hardswish(hidden)))
        return x * self.expand(F.relu(hidden)).sigmoid()


class InvertedResidual(nn.Module):
    """A 1x1 convolution that widens, a depthwise one, and a 1x1 that narrows (Sandler et al., MobileNetV2, 2018), with
    a shortcut where input and output have one shape. A negative stride enlarges the wide map, by its nearest values.

    Args:
        in_channels: of the input.
        block: of which it is one layer.
        stride: -2, 1 or 2.
        style: of the network.
    """

    def __init__(self, in_channels: int, block: Block, *, stride: int, style: BlockStyle) -> None:
        super().__init__()
        out_channels = style.channels(block)
        hidden = divisible(in_channels * block.expansion, style.divisor)
        self.expand = None if hidden == in_channels else ConvAct(in_channels, hidden, 1, style=style)
        self.enlarge = max(1, -stride)
        self.depthwise: nn.Conv2d
        if style.flavour == "mobile":
            self.depthwise = nn.Conv2d(
                hidden, hidden, block.kernel, max(1, stride), block.kernel // 2, groups=hidden, bias=False
            )
            init_relu_conv(self.depthwise)
        else:
            self.depthwise = ConvAct(hidden, hidden, block.kernel, stride=max(1, stride), groups=hidden, style=style)
        squeezed = hidden * 0.25 if style.flavour == "mobile" else hidden * (0.25 / block.expansion)
        self.squeeze = (
            SqueezeExcitation(hidden, divisible(int(squeezed), style.divisor), style.flavour) if block.squeeze else None
        )
        self.project = Conv(hidden, out_channels, 1, norm=style.norm)
        init_relu_conv(self.project)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        if self.enlarge > 1:
            y = F.interpolate(y, scale_factor=float(self.enlarge), mode="nearest")
        y = self.depthwise(y)
        if self.squeeze is not None:
            y = self.squeeze(y)
        y = self.project(y)
        return y + x if self.residual else y


def _layers(in_channels: int, stage: Stage, style: BlockStyle) -> tuple[nn.Sequential, int]:
    """The layers of a stage, and how many channels they give."""
    layers: list[nn.Module] = []
    for block in stage:
        for number in range(block.repeat):
            stride = block.stride if number == 0 else 1
            if block.kind == "conv":
                layers.append(ConvAct(in_channels, style.channels(block), block.kernel, stride=stride, style=style))
            else:
                layers.append(InvertedResidual(in_channels, block, stride=stride, style=style))
            in_channels = style.channels(block)
    return nn.Sequential(*layers), in_channels


class FBNet(StagedBackbone):
    """FBNetV3 without its classifier: maps trunk0 to trunk4.

    Args:
        arch: which architecture. "a" to "h" are FBNetV3-A to H as D2Go has them ("b" is what the paper's A and B both
            are, at images of two sizes); "a_dsmask", "a_dsmask_tiny", "a_no_se", "b_no_se" and "b_light_no_se" D2Go's
            smaller ones; "mobilenet_v2" its default.
        stages: in place of those of `arch`: for each map the blocks that lead to it.
        flavour: "mobile", D2Go's: ReLU, depthwise convolutions without norm and activation, sigmoid gates. "imagenet",
            the paper's: hard swish, also after depthwise convolutions, narrower hard sigmoid gates.
        norm: of every convolution. "frozen_bn" suits pretrained weights and small batches; training from scratch needs
            "gn", "bn" or "sync_bn".
        freeze_at: the first so many stages are constants in training.
        width: what all channels are multiplied by: 0.75 in D2Go's keypoint model.
        width_divisor: the channels within blocks, and those multiplied by `width`, are rounded to multiples of this; 8
            in all of D2Go's published models.
        out_features: the maps to return, of trunk0, trunk1, ...; all by default. Stages after the last are not built.

    Raises:
        ValueError: an argument out of range, or a stage that no map can follow from.

    `forward` takes images (B, 3, H, W) of any size, and returns (B, C, H / stride, W / stride), rounded up, for each of
    `out_features`: for a published `arch` of strides 2, 4, 8, 16, 32. D2Go's "C4" models use trunk3 and have the blocks
    of trunk4 in their box heads (`FBNetLayers`); pyramids use trunk1 to trunk4. ImageNet weights of the flavour
    "imagenet": see `det_backbones.weights.fbnet`. D2Go's detectors are trained from random weights.
    """

    def __init__(
        self,
        *,
        arch: Arch = "a",
        stages: Sequence[Sequence[Block]] | None = None,
        flavour: Flavour = "mobile",
        norm: Norm = "bn",
        freeze_at: int = 0,
        width: float = 1.0,
        width_divisor: int = 8,
        out_features: Sequence[str] | None = None,
    ) -> None:
        stages = _published(arch)["trunk"] if stages is None else stages
        if not stages:
            raise ValueError("stages is empty; give at least one")
        names = [f"trunk{number}" for number in range(len(stages))]
        super().__init__(names, names if out_features is None else out_features)
        check_freeze_at(freeze_at, names)
        style = _style(norm, flavour, width, width_divisor)
        channels, stride = 3, 1
        for number, (name, stage) in enumerate(zip(self.stages, stages, strict=False)):
            steps = [block.stride for block in stage]
            if not steps or min(steps) < 0:
                raise ValueError(
                    f"stage {number} has the strides {steps}; a backbone's stage has at least one block, and no "
                    "negative strides"
                )
            layers, channels = _layers(channels, stage, style)
            stride *= math.prod(steps)
            self.add_stage(name, layers, Shape(channels, stride))
        self.freeze_parts(freeze_at)


class FBNetLayers(RoiTrunk):
    """The blocks of a head in D2Go's mobile detectors: on pooled regions, or on feature maps in the RPN.

    Args:
        input_shapes: of the regions, or of the maps that they are pooled from, which all have as many channels.
        part: which head of `arch`: "rpn", "box", "mask" or "keypoint".
        arch: which architecture, see `FBNet`; "g_fpn" has the heads of D2Go's models with a pyramid.
        blocks: in place of those of `part`.
        flavour, norm, width, width_divisor: see `FBNet`.

    Raises:
        ValueError: an argument out of range, `arch` has no such head, or maps of several widths.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        part: Part = "box",
        arch: Arch | Literal["g_fpn"] = "a",
        blocks: Sequence[Block] | None = None,
        flavour: Flavour = "mobile",
        norm: Norm = "bn",
        width: float = 1.0,
        width_divisor: int = 8,
    ) -> None:
        super().__init__()
        style = _style(norm, flavour, width, width_divisor)
        regions = regions_of(input_shapes)
        if blocks is None:
            parts = _published(arch)
            if part not in parts:
                raise ValueError(
                    f"D2Go's architecture {arch} has no blocks for a {part} head, only for {', '.join(parts)}; choose "
                    "another, or give `blocks`"
                )
            (blocks,) = parts[part]
        if not blocks:
            raise ValueError("blocks is empty; give at least one")
        self.blocks, channels = _layers(regions.channels, blocks, style)
        stride = regions.stride
        for block in blocks:
            stride = stride * block.stride if block.stride > 0 else -(stride // block.stride)
        self._shapes = {"region": Shape(channels, stride)}

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def forward(self, regions: Tensor) -> Tensor:
        """Regions or maps (R, C, H, W) -> (R, channels, H', W')."""
        found: Tensor = self.blocks(regions)
        return found


def _style(norm: Norm, flavour: Flavour, width: float, divisor: int) -> BlockStyle:
    check_choice("flavour", flavour, ("mobile", "imagenet"))
    if width <= 0 or divisor < 1:
        raise ValueError(
            f"width is {width} and width_divisor {divisor}; a factor above 0 and a number from 1 on needed"
        )
    return BlockStyle(norm=norm, flavour=flavour, width=width, divisor=divisor)


def _published(arch: str) -> Mapping[str, Sequence[Stage]]:
    if arch not in ARCHS:
        raise ValueError(f"arch is {arch!r}; choose one of {', '.join(ARCHS)}, or give the blocks themselves")
    return ARCHS[arch]
