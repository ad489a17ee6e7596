"""Detectron2's GeneralizedRCNN: config to component tree."""

from __future__ import annotations

from typing import Any

from det_detectron2 import backbones, proposals, roi_heads
from det_detectron2.config import Detectron2Config

NAMES = (*backbones.NAMES, *proposals.NAMES, *roi_heads.NAMES)
DERIVED = proposals.DERIVED


def model_tree(config: Detectron2Config) -> dict[str, Any]:
    """The `model` section of a detkit config."""
    config.expect("MODEL.LOAD_PROPOSALS", False)
    config.unused("MODEL.RETINANET", "MODEL.SEM_SEG_HEAD", "MODEL.PANOPTIC_FPN")
    return {
        "name": "rcnn",
        **backbones.backbone_and_neck(config),
        "proposal_generator": proposals.proposal_generator(config),
        **roi_heads.roi_heads(config),
        "input": backbones.input_spec(config),
    }
