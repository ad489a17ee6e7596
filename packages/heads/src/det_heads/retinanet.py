"""RetinaNet (Lin et al., Focal Loss for Dense Object Detection, 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from det_heads.anchors import cell_anchors, given_anchors, grid_anchors
from det_heads.dense import DenseDetector, DenseHead
from det_heads.focal_loss import focal_loss
from det_heads.losses import BoxLoss, box_loss
from detkit.interfaces import Backbone, Neck
from detkit.layers import Norm
from detkit.ops.boxes import decode_boxes
from detkit.ops.compact import valid_rows
from detkit.ops.matching import match_boxes
from detkit.structures.batch import Batch, Targets
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec

SIZES = tuple(tuple(size * 2 ** (octave / 3) for octave in range(3)) for size in (32, 64, 128, 256, 512))
"""Anchor sides on p3 to p7: three to an octave."""


class RetinaNet(DenseDetector):
    """Every anchor of a pyramid is classified, with the focal loss, and moved; without proposals.

    Args:
        backbone, neck: its parts, commonly a pyramid p3 to p7; without a neck the head sees the backbone's maps.
        in_features: the maps that the head sees, finest first; all by default.
        sizes: anchor sides in pixels (square roots of the areas), one list for each map.
        aspect_ratios: height / width.
        anchor_boxes: in place of those of `sizes` and `aspect_ratios`: for each map a list of boxes [x0, y0, x1, y1]
            around a point of the grid, in pixels.
        offset: of the first anchor's centre, in strides.
        layers, channels: of the convolutions before the last, of classes and boxes each.
        norm: that follows them. "bn" and "sync_bn" have statistics of each level.
        prior: the probability that the untrained head gives to every class.
        foreground_iou, background_iou: anchors from the first on are foreground, below the second background, between
            them ignored; each object's best anchors are foreground anyway.
        box_weights: of the (dx, dy, dw, dh) parametrisation.
        box_loss: "smooth_l1" compares deltas; "giou", "diou" and "ciou" compare boxes.
        smooth_l1_beta: where the smooth L1 loss turns from quadratic to linear; 0 is L1.
        focal_alpha: weight of foreground in the focal loss, 1 less it that of background; below 0, both are 1.
        focal_gamma: how fast the focal loss falls for what is right already.
        score_threshold: detections need a higher score.
        candidates: the most (anchor, class) pairs of a level that enter suppression, best first.
        nms_iou: overlap above which the lower score of a class goes.
        clip_before_nms: whether the overlaps are of the parts of boxes that are inside the image, as in torchvision and
            Detectron, or of whole boxes.
        detections_per_image: the most detections of an image.
        normalizer: the number of foreground anchors of a batch in one process to begin with; losses are divided by its
            moving average.
        input: how images are prepared.
        categories: the classes.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | None = None,
        in_features: Sequence[str] | None = None,
        sizes: Sequence[Sequence[float]] = SIZES,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        anchor_boxes: Sequence[Sequence[Sequence[float]]] | None = None,
        offset: float = 0.0,
        layers: int = 4,
        channels: int = 256,
        norm: Norm = "",
        prior: float = 0.01,
        foreground_iou: float = 0.5,
        background_iou: float = 0.4,
        box_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        box_loss: BoxLoss = "smooth_l1",
        smooth_l1_beta: float = 0.0,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        score_threshold: float = 0.05,
        candidates: int = 1000,
        nms_iou: float = 0.5,
        clip_before_nms: bool = False,
        detections_per_image: int = 100,
        normalizer: float = 100.0,
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
        if anchor_boxes is not None:
            cells = given_anchors(anchor_boxes, self.in_features)
        elif len(sizes) != len(self.in_features) or len({len(level) for level in sizes}) > 1:
            raise ValueError(
                f"sizes has lists of {[len(level) for level in sizes]} for the {len(self.in_features)} feature maps "
                f"({', '.join(self.in_features)}); give one list for each, all of the same length"
            )
        else:
            cells = [cell_anchors(level_sizes, aspect_ratios) for level_sizes in sizes]
        for level, cell in enumerate(cells):
            self.register_buffer(f"cell_anchors{level}", cell, persistent=False)
        self.offset = offset
        self.head = DenseHead(
            self.shapes,
            len(categories),
            anchors=len(cells[0]),
            layers=layers,
            channels=channels,
            norm=norm,
            prior=prior,
        )
        self.foreground_iou, self.background_iou = foreground_iou, background_iou
        self.box_weights, self.box_loss, self.smooth_l1_beta = tuple(box_weights), box_loss, smooth_l1_beta
        self.focal_alpha, self.focal_gamma = focal_alpha, focal_gamma

    def anchors(self, level: int, height: int, width: int) -> Tensor:
        cell = getattr(self, f"cell_anchors{level}")
        return grid_anchors(cell, height, width, self.shapes[level].stride, self.offset)

    def decode(self, anchors: Tensor, deltas: Tensor) -> Tensor:
        return decode_boxes(anchors, deltas, self.box_weights)

    @torch.no_grad()
    def match(self, anchors: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """The class (B, R) of each anchor (R, 4), the number of classes for background and -1 for ignored, and the
        object (B, R) that it is matched to."""
        matched_labels, matched = match_boxes(
            targets.boxes,
            targets.valid,
            anchors[None],
            low=self.background_iou,
            high=self.foreground_iou,
            keep_best=True,
        )
        classes = torch.where(matched_labels > 0, targets.labels.gather(1, matched), len(self.categories))
        return torch.where(matched_labels < 0, -1, classes), matched

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """classification: focal loss of all anchors that are not ignored; box_regression: of foreground. Both are sums,
        divided by the average number of foreground anchors."""
        assert batch.targets is not None
        found = self.dense(batch.images, batch.sizes)
        anchors = torch.cat(found.anchors)
        labels, matched = self.match(anchors, batch.targets)
        foreground = (labels >= 0) & (labels < len(self.categories))
        normalizer = self.average_foreground(foreground.sum())
        parts = labels.split([logits.shape[1] for logits in found.logits], dim=1)
        focal = [
            focal_loss(logits, part, alpha=self.focal_alpha, gamma=self.focal_gamma)
            for logits, part in zip(found.logits, parts, strict=True)
        ]
        rows = valid_rows(foreground.flatten())  # of B * R, image by image
        image, row = rows // len(anchors), rows % len(anchors)
        regression = box_loss(
            torch.cat(found.deltas, dim=1).flatten(0, 1).index_select(0, rows),
            anchors[row],
            batch.targets.boxes[image, matched[image, row]],
            foreground.flatten()[rows],
            kind=self.box_loss,
            weights=self.box_weights,
            beta=self.smooth_l1_beta,
        )
        return {
            "classification": torch.stack(focal).sum() / normalizer,
            "box_regression": regression.sum() / normalizer,
        }
