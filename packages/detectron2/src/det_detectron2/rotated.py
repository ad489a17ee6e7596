"""Detectron2's Rotated Faster R-CNN (RRPN and RROIHeads): config to components. Its arrays have the names of upright
models'."""

from __future__ import annotations

from typing import Any

from det_detectron2 import proposals, roi_heads
from det_detectron2.config import Detectron2Config


def is_rotated(config: Detectron2Config) -> bool:
    """Whether the config describes a model of rotated boxes."""
    return bool(config.take("MODEL.PROPOSAL_GENERATOR.NAME") == "RRPN")


def regions(config: Detectron2Config) -> dict[str, Any]:
    """`proposal_generator`, `heads` and the `sampling` of their training."""
    config.expect("MODEL.LOAD_PROPOSALS", False)
    config.expect("MODEL.ROI_HEADS.NAME", "RROIHeads")
    config.expect("MODEL.MASK_ON", False)
    config.expect("MODEL.KEYPOINT_ON", False)
    config.unused("MODEL.ROI_MASK_HEAD", "MODEL.ROI_KEYPOINT_HEAD", "MODEL.ROI_BOX_CASCADE_HEAD")
    return {
        "proposal_generator": _rpn(config),
        "heads": {"box": _box_head(config)},
        "sampling": roi_heads.sampling(config),
    }


def _rpn(config: Detectron2Config) -> dict[str, Any]:
    config.expect("MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator")
    config.expect("MODEL.RPN.BBOX_REG_LOSS_TYPE", "smooth_l1")
    config.expect("MODEL.RPN.BOUNDARY_THRESH", -1)
    arguments = proposals.rpn_arguments(config)
    angles = config.take("MODEL.ANCHOR_GENERATOR.ANGLES")
    config.expect("MODEL.ANCHOR_GENERATOR.ANGLES", [angles[0]] * len(angles))  # the same on every level
    return {"name": "rrpn", **arguments, "angles": angles[0]}


def _box_head(config: Detectron2Config) -> dict[str, Any]:
    head = "MODEL.ROI_BOX_HEAD"
    config.expect(f"{head}.POOLER_TYPE", "ROIAlignRotated")
    config.expect(f"{head}.TRAIN_ON_PRED_BOXES", False)
    config.expect(f"{head}.BBOX_REG_LOSS_TYPE", "smooth_l1")
    predictor = roi_heads.box_predictor(config)
    del predictor["box_loss"]
    return {
        "name": "rotated_box",
        "in_features": config.take("MODEL.ROI_HEADS.IN_FEATURES"),
        "pool_size": config.take(f"{head}.POOLER_RESOLUTION"),
        "sampling_ratio": config.take(f"{head}.POOLER_SAMPLING_RATIO"),
        **roi_heads.box_trunk(config),
        **predictor,
    }
