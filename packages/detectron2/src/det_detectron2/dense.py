"""Detectron2's RetinaNet and FCOS: config to component tree, names of their arrays to ours."""

from __future__ import annotations

from typing import Any

from det_detectron2 import backbones
from det_detectron2.config import NORMS, Detectron2Config

NAMES = (
    *backbones.NAMES,
    # statistics of each level: a list in the place of a batch norm
    (r"head\.cls_subnet\.(\d+)\.(\d+)\.(.+)", r"head.class_tower.\1.levels.\2.\3"),
    (r"head\.bbox_subnet\.(\d+)\.(\d+)\.(.+)", r"head.box_tower.\1.levels.\2.\3"),
    (r"head\.cls_subnet\.(\d+)\.(.+)", r"head.class_tower.\1.\2"),
    (r"head\.bbox_subnet\.(\d+)\.(.+)", r"head.box_tower.\1.\2"),
    (r"head\.cls_score\.(weight|bias)", r"head.logits.\1"),
    (r"head\.bbox_pred\.(weight|bias)", r"head.deltas.\1"),
    (r"head\.ctrness\.(weight|bias)", r"head.centerness.\1"),
)
DERIVED = (r"anchor_generator\.cell_anchors\.\d+",)
INITIAL = ("normalizer",)

OF_OTHERS = (
    "MODEL.KEYPOINT_ON",
    "MODEL.LOAD_PROPOSALS",
    "MODEL.MASK_ON",
    "MODEL.PANOPTIC_FPN",
    "MODEL.PROPOSAL_GENERATOR",
    "MODEL.ROI_BOX_CASCADE_HEAD",
    "MODEL.ROI_BOX_HEAD",
    "MODEL.ROI_HEADS",
    "MODEL.ROI_KEYPOINT_HEAD",
    "MODEL.ROI_MASK_HEAD",
    "MODEL.RPN",
    "MODEL.SEM_SEG_HEAD",
)
"""Sections of modules that dense detectors do not build."""


def retinanet(config: Detectron2Config) -> dict[str, Any]:
    """The `model` section of a detkit config."""
    config.unused(*OF_OTHERS, "MODEL.ANCHOR_GENERATOR.ANGLES")
    config.expect("MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator")
    config.expect("MODEL.RETINANET.IOU_LABELS", [0, -1, 1])
    background_iou, foreground_iou = config.take("MODEL.RETINANET.IOU_THRESHOLDS")
    sizes = config.take("MODEL.ANCHOR_GENERATOR.SIZES")
    ratios = config.take("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS")
    config.expect("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [ratios[0]] * len(ratios))  # the same on all levels
    model = _dense(config, "MODEL.RETINANET")
    return {
        "name": "retinanet",
        **model,
        "norm": NORMS.get(config.expect("MODEL.RETINANET.NORM", *NORMS), ""),
        "sizes": sizes * len(model["in_features"]) if len(sizes) == 1 else sizes,
        "aspect_ratios": ratios[0],
        "offset": config.take("MODEL.ANCHOR_GENERATOR.OFFSET"),
        "foreground_iou": foreground_iou,
        "background_iou": background_iou,
        "box_weights": config.take("MODEL.RETINANET.BBOX_REG_WEIGHTS"),
        "box_loss": config.expect("MODEL.RETINANET.BBOX_REG_LOSS_TYPE", "smooth_l1", "giou", "diou", "ciou"),
        "smooth_l1_beta": config.take("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA"),
    }


def fcos(config: Detectron2Config) -> dict[str, Any]:
    """The `model` section of a detkit config. Detectron2 has FCOS in python configs alone: these are D2Go's keys, and
    some of the same kind for what it leaves at its default."""
    return {
        "name": "fcos",
        **_dense(config, "MODEL.FCOS"),
        "norm": NORMS.get(config.expect("MODEL.FCOS.HEAD_NORM", *NORMS), ""),
        "center_radius": config.take("MODEL.FCOS.CENTER_SAMPLING_RADIUS"),
    }


def _dense(config: Detectron2Config, head: str) -> dict[str, Any]:
    """What both have."""
    return {
        "num_classes": config.take(f"{head}.NUM_CLASSES"),
        **backbones.backbone_and_neck(config),
        "in_features": config.take(f"{head}.IN_FEATURES"),
        "layers": config.take(f"{head}.NUM_CONVS"),
        "channels": config.take("MODEL.FPN.OUT_CHANNELS"),
        "prior": config.take(f"{head}.PRIOR_PROB"),
        "focal_alpha": config.take(f"{head}.FOCAL_LOSS_ALPHA"),
        "focal_gamma": config.take(f"{head}.FOCAL_LOSS_GAMMA"),
        "score_threshold": config.take(f"{head}.SCORE_THRESH_TEST"),
        "candidates": config.take(f"{head}.TOPK_CANDIDATES_TEST"),
        "nms_iou": config.take(f"{head}.NMS_THRESH_TEST"),
        "detections_per_image": config.take("TEST.DETECTIONS_PER_IMAGE"),
        "input": backbones.input_spec(config),
    }
