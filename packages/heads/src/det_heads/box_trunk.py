"""The layers of box heads: from pooled regions to class logits and box deltas."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from det_heads.pooler import RoiPooler
from detkit.interfaces import RoiTrunk
from detkit.layers import Conv, Norm, init_linear, init_normal, init_relu_conv


class BoxTrunk(nn.Module):
    """3x3 convolutions, then fully connected layers, all with ReLU. Where regions have gone through a network of their
    own, `trunk` or the detector's `roi_trunk`, what is fully connected sees their mean over the grid.

    Args:
        pool: where the regions come from.
        trunk: the network that they go through first.
        convs, conv_channels, norm: of the convolutions.
        layers, channels: of the fully connected layers.
    """

    def __init__(
        self,
        pool: RoiPooler,
        *,
        trunk: RoiTrunk | None = None,
        convs: int,
        conv_channels: int,
        norm: Norm,
        layers: int,
        channels: int,
    ) -> None:
        super().__init__()
        self.mean = pool.shared or trunk is not None
        self.trunk = trunk
        widths = [pool.channels if trunk is None else trunk.output_shapes["region"].channels] + [conv_channels] * convs
        self.convs = nn.Sequential(*(Conv(a, b, 3, norm=norm, relu=True) for a, b in pairwise(widths)))
        for conv in self.convs:
            init_relu_conv(conv)  # type: ignore[arg-type]
        widths = [widths[-1] * (1 if self.mean else pool.size**2)] + [channels] * layers
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        for linear in self.linears:
            init_linear(linear)  # type: ignore[arg-type]
        self.out_channels = widths[-1]

    def forward(self, regions: Tensor) -> Tensor:
        """Regions (R, C, S, S) -> (R, out_channels)."""
        x = self.convs(regions if self.trunk is None else self.trunk(regions))
        x = x.mean(dim=(2, 3)) if self.mean else x.flatten(1)
        for linear in self.linears:
            x = F.relu(linear(x))
        return x


class BoxPredictor(nn.Module):
    """Class logits, background last, and box deltas of each class, or of all classes if `class_agnostic`."""

    def __init__(self, channels: int, num_classes: int, *, class_agnostic: bool = False, box_size: int = 4) -> None:
        super().__init__()
        self.num_classes, self.boxes, self.box_size = num_classes, 1 if class_agnostic else num_classes, box_size
        self.scores = nn.Linear(channels, num_classes + 1)
        self.deltas = nn.Linear(channels, box_size * self.boxes)
        init_normal(self.scores, std=0.01)
        init_normal(self.deltas, std=0.001)
        self.rows_per_class = {"scores.weight": 1, "scores.bias": 1}
        if not class_agnostic:
            self.rows_per_class |= {"deltas.weight": box_size, "deltas.bias": box_size}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, channels) -> logits (R, classes + 1) and deltas (R, classes or 1, box_size)."""
        return self.scores(x).float(), self.deltas(x).float().view(-1, self.boxes, self.box_size)
