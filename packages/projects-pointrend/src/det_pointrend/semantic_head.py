"""PointRend for classes of pixels (Kirillov et al., 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from det_pointrend.layers import PointNetwork
from det_pointrend.points import FeatureSampler, PointSampling, sample_maps
from det_pointrend.subdivision import Subdivision, refine
from detkit.interfaces import SemanticHead
from detkit.ops.distributed import average_count
from detkit.structures.batch import UNLABELLED, Targets
from detkit.structures.shape import Shape


class PointRendSemantic(SemanticHead):
    """A coarse head's logits, refined at the points where its two best classes are close (Kirillov et al., PointRend:
    Image Segmentation as Rendering, 2020, section 5).

    Args:
        input_shapes: of the neck's maps.
        num_semantic_classes: of pixels.
        coarse: the head that is refined.
        point_features: the maps that points are looked up in.
        point_layers, point_channels: of the hidden layers of the network of points.
        coarse_each_layer: each of them sees the coarse logits; else the first alone.
        sampling: of the points of an image in training.
        subdivision: in inference, from the stride of the coarse logits; what then lacks to the size of the images is
            interpolated.
        point_weight: of the loss of the points.

    Raises:
        ValueError: more steps than the coarse head's stride can be halved; a map is not there.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        num_semantic_classes: int,
        coarse: SemanticHead,
        point_features: Sequence[str] = ("p2",),
        point_layers: int = 3,
        point_channels: int = 256,
        coarse_each_layer: bool = True,
        sampling: PointSampling = PointSampling(count=2048),
        subdivision: Subdivision = Subdivision(steps=2, points=8192),
        point_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if coarse.stride % 2**subdivision.steps:
            raise ValueError(
                f"subdivision.steps is {subdivision.steps}, but the coarse logits have stride {coarse.stride}, which "
                "cannot be halved as often"
            )
        self.coarse = coarse
        self.point_features = FeatureSampler(input_shapes, point_features)
        self.points = PointNetwork(
            self.point_features.channels,
            num_semantic_classes,
            num_semantic_classes,
            layers=point_layers,
            channels=point_channels,
            coarse_each_layer=coarse_each_layer,
        )
        self.rows_per_semantic_class = {"points.predictor.weight": 1, "points.predictor.bias": 1}
        self.columns_per_semantic_class = {f"points.{name}": 1 for name in self.points.with_classes}
        self.sampling, self.subdivision, self.point_weight = sampling, subdivision, point_weight
        self.stride = coarse.stride // 2**subdivision.steps

    def _at_points(self, features: Mapping[str, Tensor], coarse: Tensor, points: Tensor) -> Tensor:
        """Logits (B, classes, P) at points (B, P, 2) of the images."""
        height, width = coarse.shape[2] * self.coarse.stride, coarse.shape[3] * self.coarse.stride
        pixels = torch.stack([points[..., 0] * width, points[..., 1] * height], dim=-1)
        images = torch.arange(len(coarse), device=coarse.device)
        return self.points(self.point_features(features)(pixels, images), sample_maps(coarse, points))

    def logits(self, features: Mapping[str, Tensor]) -> Tensor:
        coarse = self.coarse.logits(features)
        return refine(
            coarse,
            lambda points: self._at_points(features, coarse, points),
            uncertainty,
            steps=self.subdivision.steps,
            points=self.subdivision.points,
        )

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, classes, H, W) in the size of the padded images."""
        logits = self.logits(features)
        return logits if self.stride == 1 else F.interpolate(logits, scale_factor=self.stride, mode="bilinear")

    def losses(self, features: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """The coarse head's losses, and semantic_point: cross-entropy of points, mean over the labelled ones.

        Raises:
            ValueError: the targets have no semantic maps.
        """
        coarse = self.coarse.logits(features)
        losses = self.coarse.losses_of(coarse, targets)
        assert targets.semantic is not None
        points = self.sampling.draw(targets.seeds, lambda points: uncertainty(sample_maps(coarse, points)))
        wanted = labels_at(targets.semantic, points)
        entropy = F.cross_entropy(
            self._at_points(features, coarse, points), wanted, ignore_index=UNLABELLED, reduction="sum"
        )
        count = average_count((wanted != UNLABELLED).sum()).clamp(min=1e-3)
        return {**losses, "semantic_point": entropy / count * self.point_weight}


def uncertainty(logits: Tensor) -> Tensor:
    """Logits (B, C, ...) -> (B, ...): 0 where the two best classes are level, less where the best is ahead."""
    best = logits.topk(2, dim=1).values
    return best[:, 1] - best[:, 0]


@torch.no_grad()
def labels_at(maps: Tensor, points: Tensor) -> Tensor:
    """The labels (B, P) of the pixels of maps (B, H, W) in which points (B, P, 2) lie."""
    height, width = maps.shape[1:]
    x = (points[..., 0] * width).to(torch.int64).clamp(0, width - 1)
    y = (points[..., 1] * height).to(torch.int64).clamp(0, height - 1)
    return maps.flatten(1).gather(1, y * width + x)
