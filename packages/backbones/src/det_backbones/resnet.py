"""ResNet (He et al., Deep Residual Learning for Image Recognition, 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from detkit.interfaces import Backbone
from detkit.layers import Conv, Norm, freeze, init_relu_conv
from detkit.structures.shape import Shape

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
STAGES = ("res2", "res3", "res4", "res5")


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: Norm) -> Conv | None:
    """The projection of a block's input where it has another shape than the output."""
    if in_channels == out_channels and stride == 1:
        return None
    return Conv(in_channels, out_channels, 1, stride=stride, norm=norm)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ResNet-18 and 34."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, out_channels, 3, stride=stride, norm=norm, relu=True)
        self.conv2 = Conv(out_channels, out_channels, 3, norm=norm)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.conv2(self.conv1(x)).add_(shortcut), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut: ResNet-50, 101 and 152. The stride is in the first 1x1 convolution
    (the original weights) or in the 3x3 (torchvision's and most later weights)."""

    def __init__(
        self, in_channels: int, out_channels: int, width: int, *, stride: int, stride_in_1x1: bool, norm: Norm
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = Conv(in_channels, width, 1, stride=first, norm=norm, relu=True)
        self.conv2 = Conv(width, width, 3, stride=second, norm=norm, relu=True)
        self.conv3 = Conv(width, out_channels, 1, norm=norm)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.conv3(self.conv2(self.conv1(x))).add_(shortcut), inplace=True)


class Stem(nn.Module):
    """7x7 convolution of stride 2, then 3x3 max pooling of stride 2."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = Conv(3, channels, 7, stride=2, norm=norm, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.conv1(x), kernel_size=3, stride=2, padding=1)


class ResNet(Backbone):
    """ResNet-18, 34, 50, 101 or 152 without its classifier.

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm: of every convolution. "frozen_bn" suits pretrained weights and small batches; training from scratch needs
            "gn", "bn" or "sync_bn".
        freeze_at: the stem (1) and the stages up to res<freeze_at> are constants in training; 0 trains everything.
        stride_in_1x1: where a bottleneck's stride is: False for torchvision's weights, True for the original ones
            (MSRA).
        width: channels of the stem and of a res2 convolution; 64 in the paper.
        out_features: the stages to return, of res2, res3, res4, res5. Stages after the last are not built.

    `forward` takes images (B, 3, H, W), sides multiples of 32, and returns (B, C, H / stride, W / stride) for each
    of `out_features`, of stride 4, 8, 16, 32.
    """

    def __init__(
        self,
        *,
        depth: Literal[18, 34, 50, 101, 152] = 50,
        norm: Norm = "frozen_bn",
        freeze_at: int = 0,
        stride_in_1x1: bool = False,
        width: int = 64,
        out_features: Sequence[str] = STAGES,
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(f"depth is {depth}; ResNet has 18, 34, 50, 101 or 152 layers")
        unknown = [name for name in out_features if name not in STAGES]
        if unknown or not out_features:
            raise ValueError(f"out_features is {list(out_features)}; choose from {', '.join(STAGES)}")
        if not 0 <= freeze_at <= 5:
            raise ValueError(
                f"freeze_at is {freeze_at}; it must be 0 (nothing), 1 (the stem) or 2 to 5 (through that stage)"
            )
        self.stem = Stem(width, norm)
        expansion = 1 if depth < 50 else 4
        channels = width
        self._shapes: dict[str, Shape] = {}
        for number, (name, count) in enumerate(zip(STAGES, BLOCKS[depth], strict=True)):
            if all(STAGES.index(wanted) < number for wanted in out_features):
                break
            stage_width = width * 2**number
            blocks: list[nn.Module] = []
            for block in range(count):
                stride = 2 if number and not block else 1
                if depth < 50:
                    blocks.append(BasicBlock(channels, stage_width, stride=stride, norm=norm))
                else:
                    blocks.append(
                        Bottleneck(
                            channels,
                            4 * stage_width,
                            stage_width,
                            stride=stride,
                            stride_in_1x1=stride_in_1x1,
                            norm=norm,
                        )
                    )
                channels = stage_width * expansion
            self.add_module(name, nn.Sequential(*blocks))
            if name in out_features:
                self._shapes[name] = Shape(channels=channels, stride=4 * 2**number)
        for module in self.modules():
            if isinstance(module, Conv):
                init_relu_conv(module)
        if freeze_at >= 1:
            freeze(self.stem)
        for name in STAGES[: max(0, freeze_at - 1)]:
            if hasattr(self, name):
                freeze(getattr(self, name))

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

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
