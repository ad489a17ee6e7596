"""Detectron2's proposal generators: config to components, names of their arrays to ours."""

from __future__ import annotations

from typing import Any

from det_detectron2.config import Detectron2Config

NAMES = (
    (r"proposal_generator\.rpn_head\.conv\.(weight|bias)", r"proposal_generator.trunk.0.\1"),
    (r"proposal_generator\.rpn_head\.conv\.conv(\d+)\.(weight|bias)", r"proposal_generator.trunk.\1.\2"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(weight|bias)", r"proposal_generator.objectness.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(weight|bias)", r"proposal_generator.deltas.\1"),
)
DERIVED = (r"proposal_generator\.anchor_generator\.cell_anchors\.\d+",)


def proposal_generator(config: Detectron2Config) -> dict[str, Any] | None:
    """The proposal generator; None where proposals come with the images."""
    key = "MODEL.PROPOSAL_GENERATOR.NAME"
    config.expect("MODEL.LOAD_PROPOSALS", config.take(key) == "PrecomputedProposals")
    found: dict[str, Any] | None = config.part(key, {"RPN": _rpn, "PrecomputedProposals": _precomputed})
    return found


def _precomputed(config: Detectron2Config) -> None:
    config.unused("MODEL.RPN", "MODEL.ANCHOR_GENERATOR", "MODEL.PROPOSAL_GENERATOR.MIN_SIZE")


def _rpn(config: Detectron2Config) -> dict[str, Any]:
    config.expect("MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator")
    config.unused("MODEL.ANCHOR_GENERATOR.ANGLES")
    boundary = config.take("MODEL.RPN.BOUNDARY_THRESH")
    return {
        "name": "rpn",
        **rpn_arguments(config),
        "boundary": boundary if boundary >= 0 else None,
        "box_loss": config.expect("MODEL.RPN.BBOX_REG_LOSS_TYPE", "smooth_l1", "giou", "diou", "ciou"),
    }


def rpn_arguments(config: Detectron2Config) -> dict[str, Any]:
    """What networks that propose upright and rotated boxes have in common."""
    config.expect("MODEL.RPN.HEAD_NAME", "StandardRPNHead")
    config.expect("MODEL.RPN.IOU_LABELS", [0, -1, 1])
    features = config.take("MODEL.RPN.IN_FEATURES")
    sizes = config.take("MODEL.ANCHOR_GENERATOR.SIZES")
    ratios = config.take("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS")
    background_iou, foreground_iou = config.take("MODEL.RPN.IOU_THRESHOLDS")
    weight = config.take("MODEL.RPN.LOSS_WEIGHT")
    return {
        "in_features": features,
        "sizes": sizes * len(features) if len(sizes) == 1 else sizes,
        "aspect_ratios": ratios[0] if len(ratios) == 1 else ratios,
        "offset": config.take("MODEL.ANCHOR_GENERATOR.OFFSET"),
        "channels": [None if width == -1 else width for width in config.take("MODEL.RPN.CONV_DIMS")],
        "foreground_iou": foreground_iou,
        "background_iou": background_iou,
        "batch_size_per_image": config.take("MODEL.RPN.BATCH_SIZE_PER_IMAGE"),
        "foreground_fraction": config.take("MODEL.RPN.POSITIVE_FRACTION"),
        "pre_nms_train": config.take("MODEL.RPN.PRE_NMS_TOPK_TRAIN"),
        "pre_nms_test": config.take("MODEL.RPN.PRE_NMS_TOPK_TEST"),
        "post_nms_train": config.take("MODEL.RPN.POST_NMS_TOPK_TRAIN"),
        "post_nms_test": config.take("MODEL.RPN.POST_NMS_TOPK_TEST"),
        "nms_iou": config.take("MODEL.RPN.NMS_THRESH"),
        "min_size": config.take("MODEL.PROPOSAL_GENERATOR.MIN_SIZE"),
        "box_weights": config.take("MODEL.RPN.BBOX_REG_WEIGHTS"),
        "smooth_l1_beta": config.take("MODEL.RPN.SMOOTH_L1_BETA"),
        "objectness_weight": weight,
        "box_weight": weight * config.take("MODEL.RPN.BBOX_REG_LOSS_WEIGHT"),
    }
