"""FCOS (Tian et al., FCOS: Fully Convolutional One-Stage Object Detection, 2019; A Simple and Strong Anchor-free Object
Detector, 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from det_heads.anchors import cell_anchors, grid_anchors
from det_heads.dense import DenseDetector, DenseHead
from det_heads.focal_loss import focal_loss
from det_heads.losses import iou_loss
from detkit.interfaces import Backbone, Neck
from detkit.layers import Norm
from detkit.ops.boxes import box_area
from detkit.ops.compact import valid_rows
from detkit.structures.batch import Batch, Targets
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec

SMALLEST, LARGEST = 4, 8  # strides to the farthest side of the objects that a level is responsible for


class FCOS(DenseDetector):
    """Every location of a pyramid near the centre of an object says its class, how far its sides are, and how near the
    centre is; as Detectron2 has it, whose locations are by default the centres of the maps' cells.

    Args:
        backbone, neck: its parts, commonly a pyramid p3 to p7; without a neck the head sees the backbone's maps.
        in_features: the maps that the head sees, finest first; all by default.
        offset: of the first location, in strides.
        layers, channels: of the convolutions before the last, of classes and boxes each.
        norm: that follows them. "bn" and "sync_bn" have statistics of each level.
        prior: the probability that the untrained head gives to every class.
        center_radius: a location belongs to an object if it lies in it and is no farther from its centre, in strides.
        focal_alpha: weight of foreground in the focal loss, 1 less it that of background; below 0, both are 1.
        focal_gamma: how fast the focal loss falls for what is right already.
        score_threshold: detections need a higher score, the geometric mean of class probability and centerness.
        candidates: the most (location, class) pairs of a level that enter suppression, best first.
        nms_iou: overlap above which the lower score of a class goes.
        clip_before_nms: whether the overlaps are of the parts of boxes that are inside the image, as in torchvision and
            Detectron, or of whole boxes.
        detections_per_image: the most detections of an image.
        normalizer: the number of foreground locations of a batch in one process to begin with; losses are divided by
            its moving average.
        input: how images are prepared.
        categories: the classes.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | None = None,
        in_features: Sequence[str] | None = None,
        offset: float = 0.5,
        layers: int = 4,
        channels: int = 256,
        norm: Norm = "gn",
        prior: float = 0.01,
        center_radius: float = 1.5,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        score_threshold: float = 0.2,
        candidates: int = 1000,
        nms_iou: float = 0.6,
        clip_before_nms: bool = False,
        detections_per_image: int = 100,
        normalizer: float = 300.0,
        input: InputSpec = InputSpec(),
        categories: Categories,
    ) -> None:
        super().__init__(
            backbone=backbone,
            neck=neck,
            in_features=in_features,
            score_threshold=score_threshold,
            candidates=candidates,
            nms_iou=nms_iou,
            clip_before_nms=clip_before_nms,
            detections_per_image=detections_per_image,
            normalizer=normalizer,
            input=input,
            categories=categories,
        )
        for level, shape in enumerate(self.shapes):
            self.register_buffer(f"cell{level}", cell_anchors([shape.stride], [1.0]), persistent=False)
        self.head = DenseHead(
            self.shapes,
            len(categories),
            anchors=1,
            layers=layers,
            channels=channels,
            norm=norm,
            prior=prior,
            centerness=True,
        )
        self.offset, self.center_radius = offset, center_radius
        self.focal_alpha, self.focal_gamma = focal_alpha, focal_gamma

    def anchors(self, level: int, height: int, width: int) -> Tensor:
        """Squares (height * width, 4) as large as a map's cells, in pixels of the image; locations are their
        centres."""
        return grid_anchors(getattr(self, f"cell{level}"), height, width, self.shapes[level].stride, self.offset)

    def decode(self, anchors: Tensor, deltas: Tensor) -> Tensor:
        """Deltas are the distances from the location to left, top, right and bottom, in strides."""
        center, stride = _centers(anchors), anchors[..., 2:] - anchors[..., :2]
        low, high = F.relu(deltas).chunk(2, dim=-1)
        return torch.cat([center - low * stride, center + high * stride], dim=-1)

    @torch.no_grad()
    def match(self, anchors: Sequence[Tensor], targets: Targets) -> tuple[Tensor, Tensor]:
        """The class (B, R) of each location of all levels, the number of classes for background, and the object (B, R)
        that it belongs to: the smallest that suits."""
        classes, objects = [], []
        area = torch.where(targets.valid, box_area(targets.boxes), torch.inf)[:, :, None]
        middle = _centers(targets.boxes)[:, :, None]
        last = len(anchors) - 1
        for level, (cells, shape) in enumerate(zip(anchors, self.shapes, strict=True)):
            low = 0 if level == 0 else SMALLEST * shape.stride
            high = torch.inf if level == last else LARGEST * shape.stride
            center = _centers(cells)
            sides = _sides(center, targets.boxes[:, :, None])  # (B, G, R_l, 4)
            farthest = sides.amax(dim=-1)
            near = (center - middle).abs().amax(dim=-1) < self.center_radius * shape.stride
            suits = near & (sides.amin(dim=-1) > 0) & (farthest > low) & (farthest < high)
            smallest, index = torch.where(suits, area, torch.inf).min(dim=1)
            background = len(self.categories)
            classes.append(torch.where(smallest.isfinite(), targets.labels.gather(1, index), background))
            objects.append(index)
        return torch.cat(classes, dim=1), torch.cat(objects, dim=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """classification: focal loss of all locations; box_regression (GIoU) and centerness (cross-entropy): of
        foreground. All are sums, divided by the average number of foreground locations."""
        assert batch.targets is not None
        found = self.dense(batch.images, batch.sizes)
        labels, matched = self.match(found.anchors, batch.targets)
        foreground = labels < len(self.categories)
        normalizer = self.average_foreground(foreground.sum())
        parts = labels.split([logits.shape[1] for logits in found.logits], dim=1)
        focal = [
            focal_loss(logits, part, alpha=self.focal_alpha, gamma=self.focal_gamma)
            for logits, part in zip(found.logits, parts, strict=True)
        ]
        anchors = torch.cat(found.anchors)
        rows = valid_rows(foreground.flatten())  # of B * R, image by image
        image, row = rows // len(anchors), rows % len(anchors)
        is_foreground = foreground.flatten()[rows]
        cells = anchors[row]
        objects = torch.where(is_foreground[:, None], batch.targets.boxes[image, matched[image, row]], cells)
        deltas = torch.cat(found.deltas, dim=1).flatten(0, 1).index_select(0, rows)
        regression = iou_loss(self.decode(cells, deltas), objects, "giou")
        centerness = F.binary_cross_entropy_with_logits(
            torch.cat(found.centerness, dim=1).flatten().index_select(0, rows),
            _centerness(_sides(_centers(cells), objects)),
            reduction="none",
        )
        return {
            "classification": torch.stack(focal).sum() / normalizer,
            "box_regression": torch.where(is_foreground, regression, 0.0).sum() / normalizer,
            "centerness": torch.where(is_foreground, centerness, 0.0).sum() / normalizer,
        }


def _centers(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _sides(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances (..., 4) from points (..., 2) to the left, top, right and bottom of boxes (..., 4); below 0 where the
    point is beyond."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def _centerness(sides: Tensor) -> Tensor:
    """1 in the middle of a box and 0 at its border: from the distances (..., 4) of a point inside it."""
    low, high = sides.chunk(2, dim=-1)
    return (torch.minimum(low, high) / torch.maximum(low, high)).prod(dim=-1).sqrt()
