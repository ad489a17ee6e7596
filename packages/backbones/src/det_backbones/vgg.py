"""VGG (Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from det_backbones.arguments import check_choice, check_freeze_at
from det_backbones.staged import StagedBackbone
from detkit.layers import Conv, init_relu_conv
from detkit.structures.shape import Shape

CONVS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
STAGES = ("conv1", "conv2", "conv3", "conv4", "conv5")


class Stage(nn.Sequential):
    """Convolutions, after max pooling that halves the map if `pooled`."""

    def __init__(self, *, pooled: bool) -> None:
        super().__init__()
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = super().forward(F.max_pool2d(x, kernel_size=2, stride=2) if self.pooled else x)
        return found


class VGG(StagedBackbone):
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
        super().__init__(STAGES, out_features)
        check_choice("depth", depth, CONVS)
        check_freeze_at(freeze_at, STAGES)
        in_channels = 3
        for number, name in enumerate(self.stages):
            channels = width * min(2**number, 8)
            stage = Stage(pooled=number > 0)
            for _ in range(CONVS[depth][number]):
                conv = Conv(in_channels, channels, 3, relu=True)
                init_relu_conv(conv)
                stage.append(conv)
                in_channels = channels
            self.add_stage(name, stage, Shape(channels, 2**number))
        self.freeze_parts(freeze_at)

    @property
    def divisor(self) -> int:
        return 2 ** (len(self.stages) - 1)  # pooling would lose what is left over
