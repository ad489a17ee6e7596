"""Detectron2's SemanticSegmentor, and the semantic head that it shares with PanopticFPN: config to components, names of
their arrays to ours."""

from __future__ import annotations

from typing import Any

from det_detectron2 import backbones
from det_detectron2.config import NORMS, Detectron2Config

HEAD_NAMES = (
    (r"sem_seg_head\.predictor\.(weight|bias)", r"semantic_head.predictor.\1"),
    (r"sem_seg_head\.([^.]+)\.(\d+)\.(.+)", r"semantic_head.levels.\1.\2.\3"),
)
NAMES = (*backbones.NAMES, *HEAD_NAMES)


def model_tree(config: Detectron2Config) -> dict[str, Any]:
    """The `model` section of a detkit config."""
    config.unused(
        "MODEL.ANCHOR_GENERATOR",
        "MODEL.KEYPOINT_ON",
        "MODEL.LOAD_PROPOSALS",
        "MODEL.MASK_ON",
        "MODEL.PANOPTIC_FPN",
        "MODEL.PROPOSAL_GENERATOR",
        "MODEL.RETINANET",
        "MODEL.ROI_BOX_CASCADE_HEAD",
        "MODEL.ROI_BOX_HEAD",
        "MODEL.ROI_HEADS",
        "MODEL.ROI_KEYPOINT_HEAD",
        "MODEL.ROI_MASK_HEAD",
        "MODEL.RPN",
        "TEST.DETECTIONS_PER_IMAGE",
    )
    return {
        "name": "semantic",
        **backbones.backbone_and_neck(config),
        "semantic_head": semantic_head(config),
        "input": backbones.input_spec(config),
    }


def semantic_head(config: Detectron2Config, key: str = "MODEL.SEM_SEG_HEAD.NAME") -> dict[str, Any]:
    """The head that labels pixels.

    Args:
        key: the one that has its name.
    """
    found: dict[str, Any] = config.part(key, {"SemSegFPNHead": _pyramid_head})
    return found


def _pyramid_head(config: Detectron2Config) -> dict[str, Any]:
    head = "MODEL.SEM_SEG_HEAD"
    config.expect(f"{head}.IGNORE_VALUE", 255)
    return {
        "name": "semantic-fpn",
        "num_semantic_classes": config.take(f"{head}.NUM_CLASSES"),
        "in_features": config.take(f"{head}.IN_FEATURES"),
        "channels": config.take(f"{head}.CONVS_DIM"),
        "norm": NORMS.get(config.expect(f"{head}.NORM", *NORMS), ""),
        "stride": config.take(f"{head}.COMMON_STRIDE"),
        "weight": config.take(f"{head}.LOSS_WEIGHT"),
    }
