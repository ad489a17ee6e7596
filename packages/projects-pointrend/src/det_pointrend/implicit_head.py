"""Implicit PointRend: each region has a network of its own, which is its mask (Cheng et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from det_heads.mask_head import mean_entropy, true_masks
from det_heads.pooler import foreground_rows
from det_pointrend.layers import RegionNetwork
from det_pointrend.mask_head import PointMaskHead, Regions
from det_pointrend.point_annotations import annotated_points
from det_pointrend.points import mask_values, points_in_image, region_seeds, uniform_points
from det_pointrend.subdivision import Subdivision
from detkit.interfaces import RoiSamples
from detkit.layers import init_normal
from detkit.ops.distributed import average_count
from detkit.structures.batch import Targets
from detkit.structures.shape import Shape


class ImplicitPointRendHead(PointMaskHead):
    """Predicts the parameters of a small network for each region, which then says of any point whether it belongs to
    the object, from where the point is and from the features there (Cheng, Parkhi and Kirillov, Pointly-Supervised
    Instance Segmentation, 2022, section 5).

    Args:
        input_shapes: of the neck's maps.
        num_classes: without background.
        in_features: the maps that parameters are predicted from.
        pool_size: of the grid of features in a region.
        channels: of the convolution that halves that grid.
        layers, width: of the fully connected layers after it.
        point_features: the maps that points are looked up in; may be none.
        point_layers, point_channels: of the hidden layers of a region's network.
        position_channels: of the encoding of a point's place by sines and cosines of random frequencies (Tancik et al.,
            2020); 0 for none.
        class_agnostic: one mask for all classes of a region, instead of one for each.
        train_points: points of each region in training, anywhere in it, of which masks tell the labels; null for the
            labelled points of the data alone (`det_pointrend.point_annotations`).
        subdivision: of masks in inference; begins from a grid of as many points as a step has.
        parameter_decay: the weight of the mean square of the predicted parameters in the loss.
        weight: of the loss of the points.
        threshold: pixels from this probability on belong to the mask.

    Raises:
        ValueError: the points of a step fill no square grid; an odd number of position_channels; neither features nor
            places.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        num_classes: int,
        in_features: Sequence[str] = ("p2",),
        pool_size: int = 14,
        channels: int = 256,
        layers: int = 2,
        width: int = 1024,
        point_features: Sequence[str] = ("p2",),
        point_layers: int = 3,
        point_channels: int = 256,
        position_channels: int = 256,
        class_agnostic: bool = False,
        train_points: int | None = 14 * 14,
        subdivision: Subdivision = Subdivision(steps=3),
        parameter_decay: float = 1e-5,
        weight: float = 1.0,
        threshold: float = 0.5,
    ) -> None:
        size = math.isqrt(subdivision.points)
        if size**2 != subdivision.points:
            raise ValueError(f"subdivision.points is {subdivision.points}; the square of a whole number is needed")
        super().__init__(
            input_shapes=input_shapes,
            in_features=in_features,
            point_features=point_features,
            pool_size=pool_size,
            size=size,
            subdivision=subdivision,
            threshold=threshold,
        )
        self.num_classes, self.train_points = num_classes, train_points
        self.parameter_decay, self.weight = parameter_decay, weight
        self.trunk = RegionNetwork(self.pool.channels, pool_size, channels=channels, layers=layers, width=width)
        self.network = RegionNetworks(
            width,
            self.point_features.channels,
            position_channels,
            1 if class_agnostic else num_classes,
            layers=point_layers,
            channels=point_channels,
        )
        if not class_agnostic:
            self.rows_per_class = {
                **dict.fromkeys(("network.last_weight.weight", "network.last_weight.bias"), self.network.widths[-1]),
                **dict.fromkeys(("network.last_bias.weight", "network.last_bias.bias"), 1),
            }

    def evaluator(self, regions: Regions) -> Callable[[Tensor], Tensor]:
        parameters = self.network.parameters_of(self.trunk(regions.pooled))
        return lambda points: self._at_points(regions, parameters, points)

    def _at_points(self, regions: Regions, parameters: Sequence[Tensor], points: Tensor) -> Tensor:
        fine = regions.fine(points) if self.point_features.channels else None
        return regions.of_class(self.network(parameters, points, fine))

    def losses(self, features: Mapping[str, Tensor], samples: RoiSamples, targets: Targets) -> dict[str, Tensor]:
        """mask_point: binary cross-entropy of points of the foreground regions, of their true classes, mean over all;
        mask_parameters: the mean square of the parameters of these regions.

        Raises:
            ValueError: the targets do not have what it learns from.
        """
        foreground, rows = self.foreground(samples, targets)
        regions = self.regions(features, samples, rows)
        parameters = self.network.parameters_of(self.trunk(regions.pooled))
        points, wanted, known = self.labelled_points(samples, targets, regions)
        point_loss = mean_entropy(self._at_points(regions, parameters, points), wanted, foreground, known)
        numbers = sum(each[0].numel() for each in parameters)
        squares = sum(each.float().square().flatten(1).sum(dim=1) for each in parameters) / numbers
        assert isinstance(squares, Tensor)
        decay = torch.where(foreground, squares, 0.0).sum() / average_count(foreground.sum()).clamp(min=1e-3)
        return {"mask_point": point_loss * self.weight, "mask_parameters": decay * self.parameter_decay}

    def foreground(self, samples: RoiSamples, targets: Targets) -> tuple[Tensor, Tensor]:
        """The samples to learn from, as `det_heads.pooler.foreground_rows` gives them."""
        if self.train_points is None:
            return foreground_rows(samples, self.num_classes)
        return foreground_rows(samples, self.num_classes, targets.extra.get("has_mask"))

    def labelled_points(
        self, samples: RoiSamples, targets: Targets, regions: Regions
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What is learned from: points (R, P, 2) of the regions, what is wanted there (R, P), from 0 to 1, and where
        this is known (R, P), None for everywhere."""
        if self.train_points is None:
            return annotated_points(samples, targets, regions.rows)
        masks, index = true_masks(targets, samples, regions.rows)
        seeds = region_seeds(targets.seeds, regions.rows, samples.valid.shape[1])
        points = uniform_points(seeds, self.train_points)
        return points, mask_values(masks, index, points_in_image(regions.boxes, points)), None


class RegionNetworks(nn.Module):
    """Networks, one for each region, whose parameters are predicted.

    `hidden_weight` and `hidden_bias` predict those of all hidden layers, `last_weight` and `last_bias` those of the
    last layer, class by class.

    Args:
        in_channels: of what parameters are predicted from.
        feature_channels: of the features of points; 0 for none.
        position_channels: of the encoding of their places; 0 for none.
        out_channels: logits of a point.
        layers, channels: of the hidden layers.
    """

    frequencies: Tensor | None

    def __init__(
        self,
        in_channels: int,
        feature_channels: int,
        position_channels: int,
        out_channels: int,
        *,
        layers: int,
        channels: int,
    ) -> None:
        super().__init__()
        if position_channels % 2 or position_channels + feature_channels == 0 or layers < 1:
            raise ValueError(
                f"position_channels is {position_channels}, point_layers {layers}: an even number, which is not 0 "
                "without point_features, and at least one layer are needed"
            )
        self.widths = [position_channels + feature_channels] + [channels] * layers
        self.out_channels = out_channels
        self.register_buffer("frequencies", torch.randn(2, position_channels // 2) if position_channels else None)
        shapes = list(zip(self.widths[1:], self.widths[:-1], strict=True))
        self._weight_sizes, self._bias_sizes = [rows * columns for rows, columns in shapes], self.widths[1:]
        self.hidden_weight = nn.Linear(in_channels, sum(self._weight_sizes))
        self.hidden_bias = nn.Linear(in_channels, sum(self._bias_sizes))
        self.last_weight = nn.Linear(in_channels, out_channels * self.widths[-1])
        self.last_bias = nn.Linear(in_channels, out_channels)
        for predictor in (self.hidden_weight, self.hidden_bias, self.last_weight, self.last_bias):
            init_normal(predictor, std=0.001)

    def parameters_of(self, vectors: Tensor) -> list[Tensor]:
        """Vectors (R, in_channels) -> weights (R, out, in) of all layers, then biases (R, out, 1)."""
        weights = (*self.hidden_weight(vectors).split(self._weight_sizes, dim=1), self.last_weight(vectors))
        biases = (*self.hidden_bias(vectors).split(self._bias_sizes, dim=1), self.last_bias(vectors))
        shaped = [weight.unflatten(1, (-1, width)) for weight, width in zip(weights, self.widths, strict=True)]
        return [*shaped, *(bias[..., None] for bias in biases)]

    def forward(self, parameters: Sequence[Tensor], points: Tensor, fine: Tensor | None) -> Tensor:
        """Logits (R, out_channels, P) at points (R, P, 2) with features (R, feature_channels, P)."""
        x = torch.cat([each for each in (self._encoded(points), fine) if each is not None], dim=1)
        count = len(self.widths)
        for position, (weight, bias) in enumerate(zip(parameters[:count], parameters[count:], strict=True)):
            x = torch.baddbmm(bias, weight, x)
            if position < count - 1:
                x = F.relu(x)
        return x.float()

    def _encoded(self, points: Tensor) -> Tensor | None:
        """Sines and cosines (R, position_channels, P) of points (R, P, 2)."""
        if self.frequencies is None:
            return None
        phase = (2 * torch.pi) * (self.frequencies.mT @ (2 * points - 1).mT)
        return torch.cat([phase.sin(), phase.cos()], dim=1)
