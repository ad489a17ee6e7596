"""The box head of Rotated Faster R-CNN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from det_heads.box_head import BoxHead
from det_heads.class_loss import ClassLoss, FederatedLoss
from det_heads.rotated_rpn import check_weights
from detkit.layers import Norm
from detkit.structures.shape import Shape


class RotatedBoxHead(BoxHead):
    """Convolutions and fully connected layers on rotated regions (B, N, 5), then classes and rotated boxes.

    Args:
        input_shapes: of the neck's maps.
        in_features: the maps to pool from, finest first.
        num_classes: without background.
        pool_size, sampling_ratio: of ROIAlign, see `detkit.ops.rotated_roi_align`.
        convs, conv_channels, norm: how many 3x3 convolutions come first, and of which kind.
        layers, channels: of the fully connected trunk.
        class_agnostic: one box for all classes of a region, instead of one for each.
        class_loss: "softmax", one class or background; "sigmoid", each class by itself. It decides the scores too.
        federated: which classes count in the loss, where not all are annotated in every image; needs sigmoids.
        box_weights: of the (dx, dy, dw, dh, da) parametrisation.
        smooth_l1_beta: where the box loss turns from quadratic to linear; 0 is L1.
        class_weight, box_weight: of the losses.
        score_threshold: detections need a higher score.
        nms_iou: overlap above which the lower score of a class goes.
        detections_per_image: the most detections of an image.
        candidates: the most (region, class) pairs of an image that enter suppression, best first.

    Raises:
        ValueError: not five box weights; `federated` without sigmoids.
    """

    rotated = True

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        num_classes: int,
        in_features: Sequence[str] = ("p2", "p3", "p4", "p5"),
        pool_size: int = 7,
        sampling_ratio: int = 0,
        convs: int = 0,
        conv_channels: int = 256,
        norm: Norm = "",
        layers: int = 2,
        channels: int = 1024,
        class_agnostic: bool = False,
        class_loss: ClassLoss = "softmax",
        federated: FederatedLoss | None = None,
        box_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0, 1.0),
        smooth_l1_beta: float = 0.0,
        class_weight: float = 1.0,
        box_weight: float = 1.0,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        detections_per_image: int = 100,
        candidates: int = 4000,
    ) -> None:
        check_weights(box_weights)
        super().__init__(
            input_shapes=input_shapes,
            num_classes=num_classes,
            in_features=in_features,
            pool_size=pool_size,
            sampling_ratio=sampling_ratio,
            convs=convs,
            conv_channels=conv_channels,
            norm=norm,
            layers=layers,
            channels=channels,
            class_agnostic=class_agnostic,
            class_loss=class_loss,
            federated=federated,
            box_weights=box_weights,
            smooth_l1_beta=smooth_l1_beta,
            class_weight=class_weight,
            box_weight=box_weight,
            score_threshold=score_threshold,
            nms_iou=nms_iou,
            detections_per_image=detections_per_image,
            candidates=candidates,
        )
