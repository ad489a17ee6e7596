"""The semantic head of Panoptic FPN: a class for every pixel, from all levels of a pyramid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from detkit.interfaces import SemanticHead
from detkit.layers import Conv, Norm, init_relu_conv
from detkit.ops.distributed import average_count
from detkit.structures.batch import UNLABELLED, Targets
from detkit.structures.shape import Shape


class SemanticFPN(SemanticHead):
    """Every map of a pyramid is brought to one stride by convolutions and upsampling by 2 in turns; a 1x1 convolution
    classifies their sum (Kirillov et al., Panoptic Feature Pyramid Networks, 2019).

    Args:
        input_shapes: of the neck's maps.
        num_semantic_classes: of pixels.
        in_features: the maps to use.
        channels, norm: of the convolutions.
        stride: at which the maps are summed; logits are interpolated from there to the size of the images.
        weight: of the loss.

    Raises:
        ValueError: a map is not there, or its stride is not `stride` times a power of 2.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        num_semantic_classes: int,
        in_features: Sequence[str] = ("p2", "p3", "p4", "p5"),
        channels: int = 128,
        norm: Norm = "gn",
        stride: int = 4,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        if missing := [name for name in in_features if name not in input_shapes]:
            raise ValueError(f"in_features {missing} are not among the maps: {', '.join(input_shapes)}")
        self.levels = nn.ModuleDict({name: _level(input_shapes[name], channels, norm, stride) for name in in_features})
        self.predictor = nn.Conv2d(channels, num_semantic_classes, 1)
        init_relu_conv(self.predictor)
        self.rows_per_semantic_class = {"predictor.weight": 1, "predictor.bias": 1}
        self.stride, self.weight = stride, weight

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, classes, H, W) in the size of the padded images."""
        return self._interpolated(self.logits(features))

    def logits(self, features: Mapping[str, Tensor]) -> Tensor:
        first, *others = (level(features[name]) for name, level in self.levels.items())
        for other in others:
            first = first + other
        logits: Tensor = self.predictor(first)
        return logits.float()

    def _interpolated(self, logits: Tensor) -> Tensor:
        return F.interpolate(logits, scale_factor=self.stride, mode="bilinear")

    def losses(self, features: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        return self.losses_of(self.logits(features), targets)

    def losses_of(self, logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        """semantic: cross-entropy of the interpolated logits, mean over the labelled pixels.

        Raises:
            ValueError: the targets have no semantic maps.
        """
        if targets.semantic is None:
            raise ValueError("the semantic head needs 'semantic' (height, width) in every target; the data has none")
        entropy = F.cross_entropy(
            self._interpolated(logits), targets.semantic, ignore_index=UNLABELLED, reduction="sum"
        )
        count = average_count((targets.semantic != UNLABELLED).sum()).clamp(min=1e-3)
        return {"semantic": entropy / count * self.weight}


def _level(shape: Shape, channels: int, norm: Norm, stride: int) -> nn.Sequential:
    """From one map to the common stride: at least one convolution, and one for each doubling."""
    doublings = int(math.log2(shape.stride / stride)) if shape.stride >= stride else 0
    if shape.stride != stride * 2**doublings:
        raise ValueError(f"a map of stride {shape.stride} does not come to stride {stride} by doubling its size")
    layers: list[nn.Module] = []
    for index in range(max(1, doublings)):
        conv = Conv(channels if index else shape.channels, channels, 3, norm=norm, relu=True)
        init_relu_conv(conv)
        layers.append(conv)
        if doublings:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
    return nn.Sequential(*layers)
