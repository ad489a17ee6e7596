"""VGG (Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from detkit.interfaces import Backbone
from detkit.layers import Conv, freeze, init_relu_conv
from detkit.structures.shape import Shape

CONVS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
STAGES = ("conv1", "conv2", "conv3", "conv4", "conv5")


class VGG(Backbone):
    """VGG-11, 13, 16 or 19 up to its last convolution: 3x3 convolutions with ReLUs, and 2x2 max pooling between stages.

    With `depth` 16 and `freeze_at` 2 it is the body of Fast and Faster R-CNN (Girshick, 2015; Ren et al., 2015) in
    Detectron, whose head is two linear layers of 4096.

    Args:
        depth: 11, 13, 16 or 19.
        width: of conv1; conv2 and conv3 have twice and four times as many channels, conv4 and conv5 eight times. 64 in
            the paper.
        freeze_at: the stages up to conv<freeze_at> are constants in training; 0 trains everything.
        out_features: the stages to return, of conv1, conv2, conv3, conv4, conv5. Stages after the last are not built.

    Raises:
        ValueError: an argument out of range.

    `forward` takes images (B, 3, H, W) whose sides are multiples of the largest stride, and returns (B, C, H / stride,
    W / stride) for each of `out_features`, of stride 1, 2, 4, 8, 16 and of 64, 128, 256, 512, 512 channels.
    """

    def __init__(
        self,
        *,
        depth: Literal[11, 13, 16, 19] = 16,
        width: int = 64,
        freeze_at: int = 0,
        out_features: Sequence[str] = ("conv5",),
    ) -> None:
        super().__init__()
        if depth not in CONVS:
            raise ValueError(f"depth is {depth}; VGG has 11, 13, 16 or 19 layers")
        if not out_features or any(name not in STAGES for name in out_features):
            raise ValueError(f"out_features is {list(out_features)}; choose from {', '.join(STAGES)}")
        if not 0 <= freeze_at <= 5:
            raise ValueError(f"freeze_at is {freeze_at}; it must be 0 (nothing) or 1 to 5 (through that stage)")
        self._shapes: dict[str, Shape] = {}
        in_channels = 3
        last = max(STAGES.index(name) for name in out_features)
        for number, name in enumerate(STAGES[: last + 1]):
            channels = width * min(2**number, 8)
            stage = nn.Sequential()
            for _ in range(CONVS[depth][number]):
                conv = Conv(in_channels, channels, 3, relu=True)
                init_relu_conv(conv)
                stage.append(conv)
                in_channels = channels
            self.add_module(name, stage)
            if name in out_features:
                self._shapes[name] = Shape(channels, 2**number)
            if number < freeze_at:
                freeze(stage)

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, features = images, {}
        for name in STAGES:
            if not hasattr(self, name):
                break
            if name != STAGES[0]:
                x = F.max_pool2d(x, kernel_size=2, stride=2)
            x = getattr(self, name)(x)
            if name in self._shapes:
                features[name] = x
        return features

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        absent = [name for name in STAGES if not hasattr(self, name)]
        return {name: value for name, value in weights.items() if name.split(".")[0] not in absent}
