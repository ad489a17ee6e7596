"""The R-FCN head: regions vote on maps that know where in a box they are (Dai et al., R-FCN, 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from det_heads.box_criterion import BoxCriterion
from det_heads.class_loss import class_probabilities
from det_heads.detections import select_detections
from det_heads.position_sensitive import position_sensitive_pool
from detkit.interfaces import RoiHead, RoiSamples
from detkit.layers import Conv, init_normal
from detkit.ops.boxes import clip_boxes, decode_boxes
from detkit.structures.batch import Targets
from detkit.structures.shape import Shape


class PositionSensitiveMaps(nn.Module):
    """Maps of class scores, background last, and of box deltas, one for each cell of a grid on regions."""

    def __init__(self, channels: int, num_classes: int, *, grid: int, class_agnostic: bool) -> None:
        super().__init__()
        self.boxes = 1 if class_agnostic else num_classes
        cells = grid * grid
        self.scores = nn.Conv2d(channels, cells * (num_classes + 1), 1)
        self.deltas = nn.Conv2d(channels, cells * 4 * self.boxes, 1)
        init_normal(self.scores, std=0.01)
        init_normal(self.deltas, std=0.01)
        self.rows_per_class = {"scores.weight": cells, "scores.bias": cells}
        if not class_agnostic:
            self.rows_per_class |= {"deltas.weight": 4 * cells, "deltas.bias": 4 * cells}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, channels, H, W) -> (B, (classes + 1) * cells, H, W) and (B, (classes or 1) * 4 * cells, H, W)."""
        return self.scores(x), self.deltas(x)


class RFCNHead(RoiHead):
    """Everything that is learnt is convolutional: on a region only means are taken, one for each cell of a grid from
    the maps of that cell, and then their mean is the region's score or delta.

    Args:
        input_shapes: of the backbone's maps.
        in_feature: the map to use; res5 of a backbone whose last stage is dilated.
        num_classes: without background.
        channels: of a 1x1 convolution with ReLU that reduces the input; 0 for none.
        grid: cells along a side.
        class_agnostic: one box for all classes of a region, as in the paper, instead of one for each.
        box_weights: of the (dx, dy, dw, dh) parametrisation.
        smooth_l1_beta: where the box loss turns from quadratic to linear; 0 is L1.
        class_weight, box_weight: of the losses.
        score_threshold: detections need a higher score.
        nms_iou: overlap above which the lower score of a class goes.
        detections_per_image: the most detections of an image.
        candidates: the most (region, class) pairs of an image that enter suppression, best first.

    Raises:
        ValueError: there is no such map.
    """

    learns_masks = False

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        num_classes: int,
        in_feature: str = "res5",
        channels: int = 1024,
        grid: int = 3,
        class_agnostic: bool = True,
        box_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        smooth_l1_beta: float = 1.0,
        class_weight: float = 1.0,
        box_weight: float = 1.0,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        detections_per_image: int = 100,
        candidates: int = 4000,
    ) -> None:
        super().__init__()
        if in_feature not in input_shapes:
            raise ValueError(f"the head wants the map {in_feature}; there are {', '.join(input_shapes)}")
        self.in_feature, self.grid, self.stride = in_feature, grid, input_shapes[in_feature].stride
        width = input_shapes[in_feature].channels
        self.reduce: nn.Module = nn.Identity()
        if channels:
            reduce = Conv(width, channels, 1, relu=True)
            init_normal(reduce, std=0.01)
            self.reduce = reduce
        self.maps = PositionSensitiveMaps(channels or width, num_classes, grid=grid, class_agnostic=class_agnostic)
        self.criterion = BoxCriterion(
            num_classes,
            class_loss="softmax",
            federated=None,
            box_loss="smooth_l1",
            smooth_l1_beta=smooth_l1_beta,
            box_weights=box_weights,
            class_weight=class_weight,
            box_weight=box_weight,
        )
        self.box_weights = tuple(box_weights)
        self.score_threshold, self.nms_iou = score_threshold, nms_iou
        self.detections_per_image, self.candidates = detections_per_image, candidates

    def _predict(self, features: Mapping[str, Tensor], samples: RoiSamples) -> tuple[Tensor, Tensor]:
        """Logits (B, N, classes + 1) and deltas (B, N, classes or 1, 4) of the samples' boxes."""
        votes = [
            position_sensitive_pool(maps, samples.boxes, stride=self.stride, grid=self.grid).float().mean(dim=(3, 4))
            for maps in self.maps(self.reduce(features[self.in_feature]))
        ]
        return votes[0], votes[1].unflatten(2, (self.maps.boxes, 4))

    def losses(self, features: Mapping[str, Tensor], samples: RoiSamples, targets: Targets) -> dict[str, Tensor]:
        """box_class and box_regression; see `BoxCriterion`."""
        logits, deltas = self._predict(features, samples)
        return self.criterion(logits, deltas, samples, targets)

    def detect(self, features: Mapping[str, Tensor], samples: RoiSamples, image_sizes: Tensor) -> RoiSamples:
        """The best `detections_per_image` detections after suppression within each class, highest score first."""
        logits, deltas = self._predict(features, samples)
        return select_detections(
            samples,
            class_probabilities(logits, "softmax"),
            deltas,
            lambda boxes, moved: clip_boxes(decode_boxes(boxes, moved, self.box_weights), image_sizes),
            score_threshold=self.score_threshold,
            nms_iou=self.nms_iou,
            detections_per_image=self.detections_per_image,
            candidates=self.candidates,
        )
