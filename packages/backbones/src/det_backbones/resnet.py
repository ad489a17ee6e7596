"""ResNet (He et al., Deep Residual Learning for Image Recognition, 2015), ResNeXt (Xie et al., Aggregated Residual
Transformations, 2017), and both with dilated or deformable convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from det_backbones.deform_conv import DeformConv
from detkit.interfaces import Backbone, RoiTrunk
from detkit.layers import Conv, Norm, freeze, init_relu_conv
from detkit.structures.shape import Shape

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
STAGES = ("res2", "res3", "res4", "res5")


@dataclass(frozen=True, kw_only=True)
class BlockStyle:
    """What the blocks of a ResNet have in common, or those of one of its stages.

    Args:
        norm: of every convolution.
        stride_in_1x1: whether a bottleneck's stride is in its first 1x1 convolution instead of the 3x3.
        groups: of a bottleneck's 3x3 convolution.
        dilation: of the 3x3 convolutions.
        deformable: whether a bottleneck's 3x3 convolution is; `deform_groups` and `modulated`: see `DeformConv`.
    """

    norm: Norm
    stride_in_1x1: bool = False
    groups: int = 1
    dilation: int = 1
    deformable: bool = False
    deform_groups: int = 1
    modulated: bool = False


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: Norm) -> Conv | None:
    """The projection of a block's input where it has another shape than the output."""
    if in_channels == out_channels and stride == 1:
        return None
    return Conv(in_channels, out_channels, 1, stride=stride, norm=norm)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ResNet-18 and 34."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, style: BlockStyle) -> None:
        super().__init__()
        norm, dilation = style.norm, style.dilation
        self.conv1 = Conv(in_channels, out_channels, 3, stride=stride, dilation=dilation, norm=norm, relu=True)
        self.conv2 = Conv(out_channels, out_channels, 3, dilation=dilation, norm=norm)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.conv2(self.conv1(x)).add_(shortcut), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut: ResNet-50, 101 and 152. The stride is in the first 1x1 convolution
    (the original weights) or in the 3x3 (torchvision's and most later weights)."""

    def __init__(self, in_channels: int, out_channels: int, width: int, *, stride: int, style: BlockStyle) -> None:
        super().__init__()
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
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.conv3(self.conv2(self.conv1(x))).add_(shortcut), inplace=True)


def _stage(
    depth: int, number: int, in_channels: int, *, width: int, group_width: int, stride: int, style: BlockStyle
) -> nn.Sequential:
    """The blocks of stage res<number>, whose first has the stride. `width` and `group_width` are of res2."""
    scale = 2 ** (number - 2)
    out_channels, inner = width * scale * expansion(depth), style.groups * group_width * scale
    blocks: list[nn.Module] = []
    for _ in range(BLOCKS[depth][number - 2]):
        if expansion(depth) == 1:
            blocks.append(BasicBlock(in_channels, out_channels, stride=stride, style=style))
        else:
            blocks.append(Bottleneck(in_channels, out_channels, inner, stride=stride, style=style))
        in_channels, stride = out_channels, 1
    stage = nn.Sequential(*blocks)
    for module in stage.modules():
        if isinstance(module, Conv):
            init_relu_conv(module)
    return stage


def expansion(depth: int) -> int:
    """How many times wider the output of a block is than `width`."""
    return 1 if depth < 50 else 4


class Stem(nn.Module):
    """7x7 convolution of stride 2, then 3x3 max pooling of stride 2."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = Conv(3, channels, 7, stride=2, norm=norm, relu=True)
        init_relu_conv(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.conv1(x), kernel_size=3, stride=2, padding=1)


class ResNet(Backbone):
    """ResNet-18, 34, 50, 101 or 152 without its classifier, and what is made from it by changing its 3x3 convolutions.

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm: of every convolution. "frozen_bn" suits pretrained weights and small batches; training from scratch needs
            "gn", "bn" or "sync_bn".
        freeze_at: the stem (1) and the stages up to res<freeze_at> are constants in training; 0 trains everything.
        stride_in_1x1: where a bottleneck's stride is: False for torchvision's weights, True for the original ones
            (MSRA).
        width: of res2; its blocks return that many channels, bottlenecks four times as many. 64 in the paper.
        stem_channels: `width` by default.
        groups: of a bottleneck's 3x3 convolution: 32 in ResNeXt-101 32x8d.
        width_per_group: channels of each of them in res2, 8 in ResNeXt-101 32x8d; `width` by default.
        res5_dilation: 2 keeps res5 at stride 16, with dilated convolutions ("DC5").
        deform: stages whose 3x3 convolutions are deformable, such as res3, res4, res5.
        deform_groups: parts of the channels with offsets of their own.
        modulated: whether deformable convolutions weight their points (version 2).
        out_features: the stages to return, of res2, res3, res4, res5. Stages after the last are not built.

    Raises:
        ValueError: an argument out of range, or groups or deformable convolutions in a depth without bottlenecks.

    `forward` takes images (B, 3, H, W) of any size, and returns (B, C, H / stride, W / stride), rounded up, for each
    of `out_features`, of stride 4, 8, 16, 32 (16 if dilated).
    """

    def __init__(
        self,
        *,
        depth: Literal[18, 34, 50, 101, 152] = 50,
        norm: Norm = "frozen_bn",
        freeze_at: int = 0,
        stride_in_1x1: bool = False,
        width: int = 64,
        stem_channels: int | None = None,
        groups: int = 1,
        width_per_group: int | None = None,
        res5_dilation: Literal[1, 2] = 1,
        deform: Sequence[str] = (),
        deform_groups: int = 1,
        modulated: bool = False,
        out_features: Sequence[str] = STAGES,
    ) -> None:
        super().__init__()
        _check_blocks(depth, groups, width_per_group, deform)
        for argument, names in (("out_features", out_features), ("deform", deform)):
            if any(name not in STAGES for name in names):
                raise ValueError(f"{argument} is {list(names)}; choose from {', '.join(STAGES)}")
        if not out_features:
            raise ValueError(f"out_features is empty; choose from {', '.join(STAGES)}")
        if not 0 <= freeze_at <= 5:
            raise ValueError(
                f"freeze_at is {freeze_at}; it must be 0 (nothing), 1 (the stem) or 2 to 5 (through that stage)"
            )
        if res5_dilation not in (1, 2):
            raise ValueError(f"res5_dilation is {res5_dilation}; it must be 1 or 2")
        style = BlockStyle(
            norm=norm,
            stride_in_1x1=stride_in_1x1,
            groups=groups,
            deform_groups=deform_groups,
            modulated=modulated,
        )
        channels = stem_channels or width
        self.stem = Stem(channels, norm)
        self._shapes: dict[str, Shape] = {}
        stride = 4
        for number, name in enumerate(STAGES, 2):
            if all(STAGES.index(wanted) + 2 < number for wanted in out_features):
                break
            dilation = res5_dilation if name == "res5" else 1
            step = 1 if name == "res2" or dilation == 2 else 2
            own = replace(style, dilation=dilation, deformable=name in deform)
            stage = _stage(
                depth, number, channels, width=width, group_width=width_per_group or width, stride=step, style=own
            )
            self.add_module(name, stage)
            channels, stride = width * 2 ** (number - 2) * expansion(depth), stride * step
            if name in out_features:
                self._shapes[name] = Shape(channels, stride)
        if freeze_at >= 1:
            freeze(self.stem)
        for name in STAGES[: max(0, freeze_at - 1)]:
            if hasattr(self, name):
                freeze(getattr(self, name))

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def divisor(self) -> int:
        return 1

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.stem(images)
        features = {}
        for name in STAGES:
            if not hasattr(self, name):
                break
            x = getattr(self, name)(x)
            if name in self._shapes:
                features[name] = x
        return features

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        absent = [name for name in STAGES if not hasattr(self, name)]
        return _fresh(self) | {name: value for name, value in weights.items() if name.split(".")[0] not in absent}


class ResNetRes5(RoiTrunk):
    """The last stage of a ResNet, on pooled regions: with 14 x 14 of them, maps of 7 x 7 for the heads ("C4" models).

    Args:
        input_shapes: of the regions, pooled from res4.
        depth, norm, stride_in_1x1, width, groups, width_per_group: of the ResNet, see `ResNet`.

    Raises:
        ValueError: an argument out of range, or groups in a depth without bottlenecks.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        depth: Literal[18, 34, 50, 101, 152] = 50,
        norm: Norm = "frozen_bn",
        stride_in_1x1: bool = False,
        width: int = 64,
        groups: int = 1,
        width_per_group: int | None = None,
    ) -> None:
        super().__init__()
        _check_blocks(depth, groups, width_per_group)
        style = BlockStyle(norm=norm, stride_in_1x1=stride_in_1x1, groups=groups)
        region = input_shapes["region"]
        self.res5 = _stage(
            depth, 5, region.channels, width=width, group_width=width_per_group or width, stride=2, style=style
        )
        self._shapes = {"region": Shape(8 * width * expansion(depth), 2 * region.stride)}

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def forward(self, regions: Tensor) -> Tensor:
        found: Tensor = self.res5(regions)
        return found

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return _fresh(self) | {name: value for name, value in weights.items() if name.startswith("res5.")}


def _fresh(module: nn.Module) -> dict[str, Tensor]:
    """The arrays that plain published weights do not have: those of offsets, which begin from zeros, and counts."""
    state = module.state_dict()
    return {name: state[name] for name in state if ".offset." in name or name.endswith(".num_batches_tracked")}


def _check_blocks(depth: int, groups: int, width_per_group: int | None, deform: Sequence[str] = ()) -> None:
    if depth not in BLOCKS:
        raise ValueError(f"depth is {depth}; ResNet has 18, 34, 50, 101 or 152 layers")
    if depth < 50 and (groups != 1 or width_per_group is not None or deform):
        raise ValueError(
            f"groups, width_per_group and deform are of bottlenecks, which ResNet-{depth} does not have; "
            "leave them out, or choose depth 50, 101 or 152"
        )
