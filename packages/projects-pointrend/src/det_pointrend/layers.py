"""The networks of point heads: on regions, and on the features of points."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detkit.layers import Conv, init_linear, init_normal, init_relu_conv


class RegionNetwork(nn.Module):
    """From the features of a region on a grid to one vector: a convolution that halves the grid, after one that reduces
    the channels where there are more, and fully connected layers, all with ReLU.

    Args:
        in_channels, size: of the grid, (R, in_channels, size, size).
        channels: of the convolutions.
        layers, width: of the fully connected layers.

    Raises:
        ValueError: a grid that cannot be halved, or no layer.
    """

    def __init__(self, in_channels: int, size: int, *, channels: int, layers: int, width: int) -> None:
        super().__init__()
        if size % 2 or layers < 1:
            raise ValueError(f"pool_size {size}, {layers} layers: an even size and at least one layer are needed")
        fewer = in_channels > channels
        self.reduce = Conv(in_channels, channels, 1, relu=True) if fewer else None
        self.halve = Conv(channels if fewer else in_channels, channels, 2, stride=2, relu=True)
        widths = [channels * (size // 2) ** 2] + [width] * layers
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        for conv in (self.reduce, self.halve):
            if conv is not None:
                init_relu_conv(conv)
        for linear in self.linears:
            init_linear(linear)  # type: ignore[arg-type]

    def forward(self, regions: Tensor) -> Tensor:
        """(R, in_channels, size, size) -> (R, width)."""
        x = self.halve(regions if self.reduce is None else self.reduce(regions)).flatten(1)
        for linear in self.linears:
            x = F.relu(linear(x))
        return x


class PointNetwork(nn.Module):
    """The same small network at every point, on its features and on what a coarse prediction says there of each class.

    Args:
        in_channels: of the features.
        coarse_channels: of the coarse prediction, one for each class.
        out_channels: logits of a point.
        layers, channels: of the hidden layers.
        coarse_each_layer: whether every layer sees the coarse prediction; else the first alone.
    """

    def __init__(
        self,
        in_channels: int,
        coarse_channels: int,
        out_channels: int,
        *,
        layers: int,
        channels: int,
        coarse_each_layer: bool,
    ) -> None:
        super().__init__()
        self.coarse_each_layer = coarse_each_layer
        again = coarse_channels if coarse_each_layer else 0
        widths = [in_channels + coarse_channels] + [channels + again] * layers
        self.layers = nn.ModuleList(nn.Conv1d(width, channels, 1) for width in widths[:-1])
        self.predictor = nn.Conv1d(widths[-1], out_channels, 1)
        for layer in self.layers:
            init_relu_conv(layer)  # type: ignore[arg-type]
        init_normal(self.predictor, std=0.001)
        self.with_classes = [
            f"layers.{position}.weight" for position in range(layers if coarse_each_layer else min(layers, 1))
        ] + (["predictor.weight"] if coarse_each_layer or not layers else [])
        """The weights whose last columns belong to the classes of the coarse prediction."""

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Features (R, in_channels, P) and coarse ones (R, coarse_channels, P) -> logits (R, out_channels, P)."""
        x = torch.cat([fine, coarse], dim=1)
        for layer in self.layers:
            x = F.relu(layer(x))
            if self.coarse_each_layer:
                x = torch.cat([x, coarse], dim=1)
        logits: Tensor = self.predictor(x)
        return logits.float()
