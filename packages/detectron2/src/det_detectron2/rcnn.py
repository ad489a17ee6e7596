"""Detectron2's GeneralizedRCNN and ProposalNetwork: config to component tree."""

from __future__ import annotations

from typing import Any

from det_detectron2 import backbones, proposals, roi_heads, rotated
from det_detectron2.config import Detectron2Config

NAMES = (*backbones.NAMES, *proposals.NAMES, *roi_heads.NAMES)
DERIVED = (*proposals.DERIVED, *roi_heads.DERIVED)


def model_tree(config: Detectron2Config) -> dict[str, Any]:
    """The `model` section of a detkit config."""
    config.unused("MODEL.RETINANET", "MODEL.SEM_SEG_HEAD", "MODEL.PANOPTIC_FPN")
    return {
        "name": "rcnn",
        **backbones.backbone_and_neck(config),
        **(
            rotated.regions(config)
            if rotated.is_rotated(config)
            else {"proposal_generator": proposals.proposal_generator(config), **roi_heads.roi_heads(config)}
        ),
        "input": backbones.input_spec(config),
    }


def proposal_network_tree(config: Detectron2Config) -> dict[str, Any]:
    """The `model` section of a detkit config. Proposals are of no class, but of data that has some."""
    config.expect("MODEL.PROPOSAL_GENERATOR.NAME", "RPN")
    num_classes = config.take("MODEL.ROI_HEADS.NUM_CLASSES")
    config.unused(
        "MODEL.KEYPOINT_ON",
        "MODEL.MASK_ON",
        "MODEL.PANOPTIC_FPN",
        "MODEL.RETINANET",
        "MODEL.ROI_BOX_CASCADE_HEAD",
        "MODEL.ROI_BOX_HEAD",
        "MODEL.ROI_HEADS",
        "MODEL.ROI_KEYPOINT_HEAD",
        "MODEL.ROI_MASK_HEAD",
        "MODEL.SEM_SEG_HEAD",
        "TEST.DETECTIONS_PER_IMAGE",
    )
    return {
        "name": "proposal-network",
        "num_classes": num_classes,
        **backbones.backbone_and_neck(config),
        "proposal_generator": proposals.proposal_generator(config),
        "input": backbones.input_spec(config),
    }
