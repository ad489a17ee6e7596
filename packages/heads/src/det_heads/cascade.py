"""The box head of Cascade R-CNN: stages that refine each other's boxes (Cai and Vasconcelos, 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from det_heads.box_criterion import BoxCriterion
from det_heads.box_trunk import BoxPredictor, BoxTrunk
from det_heads.class_loss import ClassLoss, FederatedLoss, class_probabilities
from det_heads.detections import select_detections
from det_heads.losses import BoxLoss
from det_heads.pooler import RoiPooler
from detkit.interfaces import RoiHead, RoiSamples
from detkit.layers import Norm
from detkit.ops.boxes import clip_boxes, decode_boxes
from detkit.ops.matching import match_boxes
from detkit.structures.batch import Targets
from detkit.structures.shape import Shape


class CascadeHead(RoiHead):
    """Box heads of one kind in a row, each on the boxes of the one before, with one box for all classes of a region.
    Each later stage is trained on more precise boxes. Scores are the mean over the stages, boxes those of the last.

    Args:
        input_shapes: of the neck's maps.
        in_features: the maps to pool from, finest first.
        num_classes: without background.
        pool_size, sampling_ratio, aligned: of ROIAlign.
        convs, conv_channels, norm: how many 3x3 convolutions come first in each stage, and of which kind.
        layers, channels: of the fully connected trunk of each stage.
        ious: for each stage after the first, the overlap with an object from which its regions are foreground; the
            first is trained on what the detector samples.
        box_weights: of the (dx, dy, dw, dh) parametrisation, for each stage.
        class_loss: "softmax", one class or background; "sigmoid", each class by itself. It decides the scores too.
        federated: which classes count in the loss, where not all are annotated in every image; needs sigmoids.
        box_loss: "smooth_l1" of the deltas, or "giou", "diou" or "ciou" of the boxes.
        smooth_l1_beta: where the box loss turns from quadratic to linear; 0 is L1.
        class_weight, box_weight: of the losses.
        score_threshold: detections need a higher score.
        nms_iou: overlap above which the lower score of a class goes.
        detections_per_image: the most detections of an image.
        candidates: the most (region, class) pairs of an image that enter suppression, best first.

    Raises:
        ValueError: `box_weights` are not one more than `ious`; `federated` without sigmoids; a detector with a
            `roi_trunk`, which pools regions once.
    """

    learns_masks = False

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        num_classes: int,
        in_features: Sequence[str] = ("p2", "p3", "p4", "p5"),
        pool_size: int = 7,
        sampling_ratio: int = 0,
        aligned: bool = True,
        convs: int = 0,
        conv_channels: int = 256,
        norm: Norm = "",
        layers: int = 2,
        channels: int = 1024,
        ious: Sequence[float] = (0.6, 0.7),
        box_weights: Sequence[Sequence[float]] = (
            (10.0, 10.0, 5.0, 5.0),
            (20.0, 20.0, 10.0, 10.0),
            (30.0, 30.0, 15.0, 15.0),
        ),
        class_loss: ClassLoss = "softmax",
        federated: FederatedLoss | None = None,
        box_loss: BoxLoss = "smooth_l1",
        smooth_l1_beta: float = 0.0,
        class_weight: float = 1.0,
        box_weight: float = 1.0,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        detections_per_image: int = 100,
        candidates: int = 4000,
    ) -> None:
        super().__init__()
        if len(box_weights) != len(ious) + 1:
            raise ValueError(
                f"the cascade has {len(box_weights)} box_weights for {len(ious) + 1} stages; give one for each, and an "
                "entry of `ious` for each but the first"
            )
        self.pool = RoiPooler(input_shapes, in_features, size=pool_size, sampling_ratio=sampling_ratio, aligned=aligned)
        if self.pool.shared:
            raise ValueError("a cascade pools regions in every stage, a roi_trunk once; leave one of them out")
        self.num_classes = num_classes
        self.trunks = nn.ModuleList(
            BoxTrunk(self.pool, convs=convs, conv_channels=conv_channels, norm=norm, layers=layers, channels=channels)
            for _ in box_weights
        )
        self.predictors = nn.ModuleList(
            BoxPredictor(trunk.out_channels, num_classes, class_agnostic=True)  # type: ignore[arg-type]
            for trunk in self.trunks
        )
        self.criteria = [
            BoxCriterion(
                num_classes,
                class_loss=class_loss,
                federated=federated,
                box_loss=box_loss,
                smooth_l1_beta=smooth_l1_beta,
                box_weights=weights,
                class_weight=class_weight,
                box_weight=box_weight,
                stage=stage,
            )
            for stage, weights in enumerate(box_weights)
        ]
        self.ious, self.box_weights = tuple(ious), tuple(tuple(weights) for weights in box_weights)
        self.class_loss = class_loss
        self.score_threshold, self.nms_iou = score_threshold, nms_iou
        self.detections_per_image, self.candidates = detections_per_image, candidates

    def _predict(self, stage: int, regions: Tensor, samples: RoiSamples) -> tuple[Tensor, Tensor]:
        """Logits (B, N, classes + 1) and deltas (B, N, 1, 4) of a stage."""
        logits, deltas = self.predictors[stage](self.trunks[stage](regions))
        return logits.unflatten(0, samples.valid.shape), deltas.unflatten(0, samples.valid.shape)

    def _moved(self, stage: int, samples: RoiSamples, deltas: Tensor, image_sizes: Tensor) -> Tensor:
        """The boxes (B, N, 4) that a stage answers, for the next one."""
        boxes = decode_boxes(samples.boxes, deltas.detach().squeeze(2), self.box_weights[stage])
        return clip_boxes(boxes, image_sizes)

    def losses(self, features: Mapping[str, Tensor], samples: RoiSamples, targets: Targets) -> dict[str, Tensor]:
        """box_class_stage0, box_regression_stage0 and so on; see `BoxCriterion`. The stages share the gradient of the
        feature maps."""
        image_sizes = samples.image_sizes
        assert image_sizes is not None
        losses = {}
        for stage, criterion in enumerate(self.criteria):
            regions = _ScaledGradient.apply(self.pool.regions(features, samples), 1 / len(self.criteria))
            logits, deltas = self._predict(stage, regions, samples)
            found = criterion(logits, deltas, samples, targets)
            losses.update({f"{name}_stage{stage}": value for name, value in found.items()})
            if stage < len(self.ious):
                boxes = self._moved(stage, samples, deltas, image_sizes)
                samples = rematched(samples, boxes, targets, iou=self.ious[stage], background=self.num_classes)
        return losses

    def detect(self, features: Mapping[str, Tensor], samples: RoiSamples, image_sizes: Tensor) -> RoiSamples:
        """The best `detections_per_image` detections after suppression within each class, highest score first."""
        probabilities: list[Tensor] = []
        for stage in range(len(self.trunks)):
            logits, deltas = self._predict(stage, self.pool.regions(features, samples), samples)
            probabilities.append(class_probabilities(logits, self.class_loss))
            if stage < len(self.ious):
                samples = replace(samples, boxes=self._moved(stage, samples, deltas, image_sizes))
        return select_detections(
            samples,
            torch.stack(probabilities).mean(dim=0),
            deltas,
            lambda boxes, moved: clip_boxes(decode_boxes(boxes, moved, self.box_weights[-1]), image_sizes),
            score_threshold=self.score_threshold,
            nms_iou=self.nms_iou,
            detections_per_image=self.detections_per_image,
            candidates=self.candidates,
        )


@torch.no_grad()
def rematched(samples: RoiSamples, boxes: Tensor, targets: Targets, *, iou: float, background: int) -> RoiSamples:
    """The samples with other boxes (B, N, 4), all of which are matched to the ground truth anew: foreground, which may
    now be anywhere, overlaps an object by at least `iou`. Boxes without area are no longer valid."""
    found, index = match_boxes(targets.boxes, targets.valid, boxes, low=iou, high=iou)
    return replace(
        samples,
        boxes=boxes,
        valid=samples.valid & (boxes[..., 2:] > boxes[..., :2]).all(dim=-1),
        labels=torch.where(found > 0, targets.labels.gather(1, index), background),
        target_index=index,
        foreground=boxes.shape[1],
    )


class _ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.scale, None
