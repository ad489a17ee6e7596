"""The parts of ResNets: stems, residual blocks, stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from det_backbones.deform_conv import DeformConv
from det_backbones.non_local import NonLocal
from detkit.layers import Conv, Norm, init_relu_conv

SQUEEZE = 16  # how many times fewer channels squeeze-excite has between its two layers (Hu et al., 2018)


@dataclass(frozen=True, kw_only=True)
class BlockStyle:
    """What the blocks of a ResNet have in common, or those of one of its stages.

    Args:
        norm: of every convolution.
        stride_in_1x1: whether a bottleneck's stride is in its first 1x1 convolution instead of the 3x3.
        groups: of a bottleneck's 3x3 convolution.
        dilation: of the 3x3 convolutions.
        deformable: whether a bottleneck's 3x3 convolution is; `deform_groups` and `modulated`: see `DeformConv`.
        squeeze_excite: whether the channels are weighted before the shortcut is added.
        non_local: whether a non-local block follows.
    """

    norm: Norm
    stride_in_1x1: bool = False
    groups: int = 1
    dilation: int = 1
    deformable: bool = False
    deform_groups: int = 1
    modulated: bool = False
    squeeze_excite: bool = False
    non_local: bool = False


class Stem(nn.Module):
    """7x7 convolution of stride 2, then 3x3 max pooling of stride 2."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = Conv(3, channels, 7, stride=2, norm=norm, relu=True)
        init_relu_conv(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.conv1(x), kernel_size=3, stride=2, padding=1)


class DeepStem(nn.Module):
    """Three 3x3 convolutions, the first of stride 2 and two of half the channels, then 3x3 max pooling of stride 2
    (DeepLab's; the "c" of ResNet-101c)."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = Conv(3, half, 3, stride=2, norm=norm, relu=True)
        self.conv2 = Conv(half, half, 3, norm=norm, relu=True)
        self.conv3 = Conv(half, channels, 3, norm=norm, relu=True)
        for conv in (self.conv1, self.conv2, self.conv3):
            init_relu_conv(conv)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.conv3(self.conv2(self.conv1(x))), kernel_size=3, stride=2, padding=1)


class _ResidualBlock(nn.Module):
    """The shortcut, and what surrounds the sum of shortcut and convolutions."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, style: BlockStyle) -> None:
        super().__init__()
        same = in_channels == out_channels and stride == 1
        self.shortcut = None if same else Conv(in_channels, out_channels, 1, stride=stride, norm=style.norm)
        self.excite = SqueezeExcitation(out_channels, max(1, out_channels // SQUEEZE)) if style.squeeze_excite else None
        self.non_local = NonLocal(out_channels) if style.non_local else None

    def finish(self, residual: Tensor, x: Tensor) -> Tensor:
        """The block's output, from that of its convolutions and its input."""
        if self.excite is not None:
            residual = self.excite(residual)
        shortcut = x if self.shortcut is None else self.shortcut(x)
        out = F.relu(residual.add_(shortcut), inplace=True)
        return out if self.non_local is None else self.non_local(out)


class BasicBlock(_ResidualBlock):
    """Two 3x3 convolutions and a shortcut: ResNet-18 and 34."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, style: BlockStyle) -> None:
        super().__init__(in_channels, out_channels, stride, style)
        norm, dilation = style.norm, style.dilation
        self.conv1 = Conv(in_channels, out_channels, 3, stride=stride, dilation=dilation, norm=norm, relu=True)
        self.conv2 = Conv(out_channels, out_channels, 3, dilation=dilation, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.conv2(self.conv1(x)), x)


class Bottleneck(_ResidualBlock):
    """1x1, 3x3, 1x1 convolutions and a shortcut: ResNet-50, 101 and 152. The stride is in the first 1x1 convolution
    (the original weights) or in the 3x3 (torchvision's and most later weights)."""

    def __init__(self, in_channels: int, out_channels: int, width: int, *, stride: int, style: BlockStyle) -> None:
        super().__init__(in_channels, out_channels, stride, style)
        norm = style.norm
        first, second = (stride, 1) if style.stride_in_1x1 else (1, stride)
        self.conv1 = Conv(in_channels, width, 1, stride=first, norm=norm, relu=True)
        if style.deformable:
            self.conv2: Conv = DeformConv(
                width,
                width,
                3,
                stride=second,
                dilation=style.dilation,
                groups=style.groups,
                deform_groups=style.deform_groups,
                modulated=style.modulated,
                norm=norm,
                relu=True,
            )
        else:
            self.conv2 = Conv(
                width, width, 3, stride=second, dilation=style.dilation, groups=style.groups, norm=norm, relu=True
            )
        self.conv3 = Conv(width, out_channels, 1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.conv3(self.conv2(self.conv1(x))), x)


def expansion(depth: int) -> int:
    """How many times wider the output of a block is than `width`."""
    return 1 if depth < 50 else 4


def stage(
    depth: int,
    in_channels: int,
    *,
    width: int,
    group_width: int,
    stride: int,
    styles: Sequence[BlockStyle],
) -> nn.Sequential:
    """A block for each of `styles`, of which the first has the stride.

    Args:
        depth: of the ResNet, which says of what sort its blocks are.
        in_channels: of the input.
        width: channels of the blocks, whose outputs have `expansion(depth)` times as many.
        group_width: channels of each group of a bottleneck's 3x3 convolution.
    """
    out_channels = width * expansion(depth)
    blocks: list[nn.Module] = []
    for style in styles:
        if expansion(depth) == 1:
            blocks.append(BasicBlock(in_channels, out_channels, stride=stride, style=style))
        else:
            blocks.append(Bottleneck(in_channels, out_channels, style.groups * group_width, stride=stride, style=style))
        in_channels, stride = out_channels, 1
    for block in blocks:
        for layer in block.children():
            if isinstance(layer, Conv):
                init_relu_conv(layer)
    return nn.Sequential(*blocks)
