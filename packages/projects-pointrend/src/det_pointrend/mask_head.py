"""PointRend: masks whose uncertain points are computed one by one (Kirillov et al., 2020)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from det_heads.mask_head import GridMaskHead, crop_masks, mean_entropy, of_class, true_masks
from det_heads.pooler import foreground_rows
from det_pointrend.layers import PointNetwork, RegionNetwork
from det_pointrend.points import (
    FeatureSampler,
    PointSampling,
    grid_points,
    mask_values,
    points_in_image,
    region_seeds,
    sample_maps,
)
from det_pointrend.subdivision import Subdivision
from detkit.interfaces import RoiSamples
from detkit.layers import init_normal
from detkit.structures.batch import Targets
from detkit.structures.shape import Shape


@dataclass(frozen=True)
class Regions:
    """The regions that a head computes: those at `rows` (R,) of the flattened (B * N,) samples, their boxes (R, 4),
    images (R,) and labels (R,), of any class for background; `pooled` (R, C, S, S) and what looks up features."""

    rows: Tensor
    boxes: Tensor
    images: Tensor
    labels: Tensor
    pooled: Tensor
    look: Callable[[Tensor, Tensor], Tensor]

    def fine(self, points: Tensor) -> Tensor:
        """Features (R, C, P) at points (R, P, 2) of the regions."""
        return self.look(points_in_image(self.boxes, points), self.images)

    def of_class(self, logits: Tensor) -> Tensor:
        """From logits (R, K, ...) of all classes, or of all together (R, 1, ...), those (R, ...) of the labels."""
        return of_class(logits, self.labels)


class PointMaskHead(GridMaskHead):
    """A mask head that can be asked about any point of a region. In inference masks are rendered by subdivision.

    Args:
        input_shapes: of the neck's maps.
        in_features: the maps that regions are pooled from, by bilinear look-up on a grid.
        point_features: the maps that points are looked up in.
        pool_size: of the grid.
        size: of the grid that subdivision begins from.
        subdivision: how it goes on.
        threshold: pixels from this probability on belong to the mask.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        in_features: Sequence[str],
        point_features: Sequence[str],
        pool_size: int,
        size: int,
        subdivision: Subdivision,
        threshold: float,
    ) -> None:
        super().__init__()
        self.pool = FeatureSampler(input_shapes, in_features)
        self.point_features = FeatureSampler(input_shapes, point_features)
        self.pool_size, self.size, self.subdivision, self.threshold = pool_size, size, subdivision, threshold

    def regions(self, features: Mapping[str, Tensor], samples: RoiSamples, rows: Tensor) -> Regions:
        """The samples at `rows`."""
        assert samples.labels is not None
        boxes, images = samples.boxes.flatten(0, 1)[rows], rows // samples.valid.shape[1]
        grid = grid_points(self.pool_size, boxes.device).expand(len(boxes), -1, -1)
        pooled = self.pool(features)(points_in_image(boxes, grid), images)
        return Regions(
            rows,
            boxes,
            images,
            samples.labels.flatten()[rows],
            pooled.unflatten(2, (self.pool_size, self.pool_size)),
            self.point_features(features),
        )

    @abstractmethod
    def evaluator(self, regions: Regions) -> Callable[[Tensor], Tensor]:
        """What gives logits (R, P) of the regions' classes at points (R, P, 2)."""

    def logits(self, features: Mapping[str, Tensor], samples: RoiSamples, rows: Tensor) -> Tensor:
        evaluate = self.evaluator(self.regions(features, samples, rows))
        return self.subdivision.render(evaluate, len(rows), self.size, rows.device)


class PointRendHead(PointMaskHead):
    """A coarse mask of each region, and a small network that says at any point what is there, from fine features and
    from what the coarse mask is there (Kirillov et al., PointRend: Image Segmentation as Rendering, 2020).

    With the defaults masks have 224 by 224 cells: 28 by 28 points, then three steps of as many; the steps before would
    compute every cell.

    Args:
        input_shapes: of the neck's maps.
        num_classes: without background.
        in_features: the maps of the coarse masks.
        pool_size: of the grid of features in a region.
        coarse_channels: of the convolution that halves that grid.
        coarse_layers, coarse_width: of the fully connected layers after it.
        coarse_size: of the coarse masks.
        point_features: the maps that points are looked up in.
        point_layers, point_channels: of the hidden layers of the network of points.
        coarse_each_layer: each of them sees the coarse masks of all classes; else the first alone.
        class_agnostic: the network of points says one thing for all classes of a region, instead of one for each.
        sampling: of the points in training.
        subdivision: of masks in inference, which begins from `coarse_size`.
        weight, point_weight: of the losses of the coarse masks and of the points.
        threshold: pixels from this probability on belong to the mask.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        num_classes: int,
        in_features: Sequence[str] = ("p2",),
        pool_size: int = 14,
        coarse_channels: int = 256,
        coarse_layers: int = 2,
        coarse_width: int = 1024,
        coarse_size: int = 7,
        point_features: Sequence[str] = ("p2",),
        point_layers: int = 3,
        point_channels: int = 256,
        coarse_each_layer: bool = True,
        class_agnostic: bool = False,
        sampling: PointSampling = PointSampling(),
        subdivision: Subdivision = Subdivision(),
        weight: float = 1.0,
        point_weight: float = 1.0,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(
            input_shapes=input_shapes,
            in_features=in_features,
            point_features=point_features,
            pool_size=pool_size,
            size=coarse_size,
            subdivision=subdivision,
            threshold=threshold,
        )
        self.num_classes, self.sampling, self.weight, self.point_weight = num_classes, sampling, weight, point_weight
        self.coarse = RegionNetwork(
            self.pool.channels, pool_size, channels=coarse_channels, layers=coarse_layers, width=coarse_width
        )
        self.coarse_predictor = nn.Linear(coarse_width, num_classes * coarse_size**2)
        init_normal(self.coarse_predictor, std=0.001)
        self.points = PointNetwork(
            self.point_features.channels,
            num_classes,
            1 if class_agnostic else num_classes,
            layers=point_layers,
            channels=point_channels,
            coarse_each_layer=coarse_each_layer,
        )
        self.rows_per_class = dict.fromkeys(("coarse_predictor.weight", "coarse_predictor.bias"), coarse_size**2)
        if not class_agnostic:
            self.rows_per_class |= {"points.predictor.weight": 1, "points.predictor.bias": 1}
        self.columns_per_class = {f"points.{name}": 1 for name in self.points.with_classes}

    def _coarse_masks(self, regions: Regions) -> Tensor:
        """Logits (R, classes, size, size)."""
        logits = self.coarse_predictor(self.coarse(regions.pooled)).float()
        return logits.view(len(logits), self.num_classes, self.size, self.size)

    def _at_points(self, regions: Regions, coarse: Tensor, points: Tensor) -> Tensor:
        """Logits (R, P) at points (R, P, 2)."""
        return regions.of_class(self.points(regions.fine(points), sample_maps(coarse, points)))

    def evaluator(self, regions: Regions) -> Callable[[Tensor], Tensor]:
        coarse = self._coarse_masks(regions)
        return lambda points: self._at_points(regions, coarse, points)

    def losses(self, features: Mapping[str, Tensor], samples: RoiSamples, targets: Targets) -> dict[str, Tensor]:
        """mask: binary cross-entropy of the true class's coarse mask, mean over the cells of the foreground regions;
        mask_point: the same over points of these regions.

        Raises:
            ValueError: the targets have no masks.
        """
        foreground, rows = foreground_rows(samples, self.num_classes, targets.extra.get("has_mask"))
        regions = self.regions(features, samples, rows)
        masks, index = true_masks(targets, samples, rows)
        coarse = self._coarse_masks(regions)
        own = regions.of_class(coarse)
        loss = mean_entropy(own, crop_masks(masks, regions.boxes, index, self.size), foreground)
        seeds = region_seeds(targets.seeds, rows, samples.valid.shape[1])
        points = self.sampling.draw(seeds, lambda points: -sample_maps(own[:, None], points)[:, 0].abs())
        wanted = mask_values(masks, index, points_in_image(regions.boxes, points))
        point_loss = mean_entropy(self._at_points(regions, coarse, points), wanted, foreground)
        return {"mask": loss * self.weight, "mask_point": point_loss * self.point_weight}
