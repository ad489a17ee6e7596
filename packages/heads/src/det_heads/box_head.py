"""The box head: a class and a refined box for each region (Girshick, Fast R-CNN, 2015; Lin et al., FPN, 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from det_heads.box_criterion import BoxCriterion
from det_heads.box_trunk import BoxPredictor, BoxTrunk
from det_heads.class_loss import ClassLoss, FederatedLoss, class_probabilities
from det_heads.detections import select_detections
from det_heads.losses import BoxLoss
from det_heads.pooler import RoiPooler
from detkit.interfaces import RoiHead, RoiSamples, RoiTrunk
from detkit.layers import Norm
from detkit.ops.boxes import clip_boxes, decode_boxes
from detkit.structures.batch import Targets
from detkit.structures.shape import Shape


class BoxHead(RoiHead):
    """Convolutions and fully connected layers on pooled regions, then classes and boxes.

    Args:
        input_shapes: of the neck's maps.
        in_features: the maps to pool from, finest first.
        num_classes: without background.
        pool_size, sampling_ratio, aligned, inclusive: of ROIAlign.
        trunk: layers of this head's own on what is pooled.
        convs, conv_channels, norm: how many 3x3 convolutions come first, or after the trunk, and of which kind.
        layers, channels: of what is fully connected. After a trunk, or a detector's `roi_trunk`, it starts from the
            regions' mean over the grid; the "C4" models have no layers.
        class_agnostic: one box for all classes of a region, instead of one for each.
        class_loss: "softmax", one class or background; "sigmoid", each class by itself. It decides the scores too.
        federated: which classes count in the loss, where not all are annotated in every image; needs sigmoids.
        box_loss: "smooth_l1" of the deltas, or "giou", "diou" or "ciou" of the boxes.
        box_weights: of the (dx, dy, dw, dh) parametrisation.
        smooth_l1_beta: where the box loss turns from quadratic to linear; 0 is L1.
        class_weight, box_weight: of the losses.
        train_on_predicted: the heads that follow are trained on the boxes that this one predicts for the true classes.
        score_threshold: detections need a higher score.
        nms_iou: overlap above which the lower score of a class goes.
        detections_per_image: the most detections of an image.
        candidates: the most (region, class) pairs of an image that enter suppression, best first.

    Raises:
        ValueError: `federated` without sigmoids; `train_on_predicted` where all heads share pooled regions.
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
        inclusive: bool = False,
        trunk: RoiTrunk | None = None,
        convs: int = 0,
        conv_channels: int = 256,
        norm: Norm = "",
        layers: int = 2,
        channels: int = 1024,
        class_agnostic: bool = False,
        class_loss: ClassLoss = "softmax",
        federated: FederatedLoss | None = None,
        box_loss: BoxLoss = "smooth_l1",
        box_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        smooth_l1_beta: float = 0.0,
        class_weight: float = 1.0,
        box_weight: float = 1.0,
        train_on_predicted: bool = False,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        detections_per_image: int = 100,
        candidates: int = 4000,
    ) -> None:
        super().__init__()
        self.pool = RoiPooler(
            input_shapes,
            in_features,
            size=pool_size,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
            inclusive=inclusive,
        )
        if train_on_predicted and self.pool.shared:
            raise ValueError("train_on_predicted moves the regions, which a roi_trunk has pooled before; leave it out")
        self.trunk = BoxTrunk(
            self.pool,
            trunk=trunk,
            convs=convs,
            conv_channels=conv_channels,
            norm=norm,
            layers=layers,
            channels=channels,
        )
        self.predictor = BoxPredictor(
            self.trunk.out_channels, num_classes, class_agnostic=class_agnostic, box_size=len(box_weights)
        )
        self.criterion = BoxCriterion(
            num_classes,
            class_loss=class_loss,
            federated=federated,
            box_loss=box_loss,
            smooth_l1_beta=smooth_l1_beta,
            box_weights=box_weights,
            class_weight=class_weight,
            box_weight=box_weight,
        )
        self.class_loss, self.box_weights = class_loss, tuple(box_weights)
        self.train_on_predicted = train_on_predicted
        self.score_threshold, self.nms_iou = score_threshold, nms_iou
        self.detections_per_image, self.candidates = detections_per_image, candidates

    def _predict(self, features: Mapping[str, Tensor], samples: RoiSamples) -> tuple[Tensor, Tensor]:
        """Logits (B, N, classes + 1) and deltas (B, N, classes or 1, 4 or 5) of the samples' boxes."""
        logits, deltas = self.predictor(self.trunk(self.pool.regions(features, samples)))
        return logits.unflatten(0, samples.valid.shape), deltas.unflatten(0, samples.valid.shape)

    def losses(self, features: Mapping[str, Tensor], samples: RoiSamples, targets: Targets) -> dict[str, Tensor]:
        """box_class and box_regression; see `BoxCriterion`. May move the boxes of `samples`."""
        assert samples.labels is not None
        logits, deltas = self._predict(features, samples)
        losses = self.criterion(logits, deltas, samples, targets)
        if self.train_on_predicted:
            label = samples.labels.clamp(max=deltas.shape[2] - 1)[..., None, None].expand(-1, -1, 1, deltas.shape[3])
            moved = deltas.detach().gather(2, label).squeeze(2)
            samples.boxes = decode_boxes(samples.boxes, moved, self.box_weights)
        return losses

    def detect(self, features: Mapping[str, Tensor], samples: RoiSamples, image_sizes: Tensor) -> RoiSamples:
        """The best `detections_per_image` detections after suppression within each class, highest score first."""
        logits, deltas = self._predict(features, samples)
        return select_detections(
            samples,
            class_probabilities(logits, self.class_loss),
            deltas,
            lambda boxes, moved: clip_boxes(decode_boxes(boxes, moved, self.box_weights), image_sizes),
            score_threshold=self.score_threshold,
            nms_iou=self.nms_iou,
            detections_per_image=self.detections_per_image,
            candidates=self.candidates,
        )
