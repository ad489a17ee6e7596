"""Detectron2's PanopticFPN: an R-CNN with a semantic head."""

from __future__ import annotations

from typing import Any

from det_detectron2 import backbones, proposals, rcnn, roi_heads, semantic
from det_detectron2.config import Detectron2Config

NAMES = (*rcnn.NAMES, *semantic.HEAD_NAMES)
DERIVED = rcnn.DERIVED


def model_tree(config: Detectron2Config) -> dict[str, Any]:
    """The `model` section of a detkit config."""
    config.unused("MODEL.RETINANET")
    return {
        "name": "rcnn",
        **backbones.backbone_and_neck(config),
        "semantic_head": semantic.semantic_head(config),
        "panoptic": _merging(config),
        "proposal_generator": proposals.proposal_generator(config),
        **roi_heads.roi_heads(config),
        "instance_weight": config.take("MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT"),
        "input": backbones.input_spec(config),
    }


def _merging(config: Detectron2Config) -> dict[str, Any] | None:
    combine = "MODEL.PANOPTIC_FPN.COMBINE"
    if not config.take(f"{combine}.ENABLED"):
        config.unused(combine)
        return None
    return {
        "overlap": config.take(f"{combine}.OVERLAP_THRESH"),
        "stuff_area": config.take(f"{combine}.STUFF_AREA_LIMIT"),
        "score": config.take(f"{combine}.INSTANCES_CONFIDENCE_THRESH"),
    }
