"""What det-heads provides."""

from __future__ import annotations

import re
from pathlib import Path

from detkit.plugins import Component, hookimpl

RECIPES = Path(__file__).with_name("recipes")


def _summary(recipe: Path) -> str:
    """The summary that `about` gives, read as text: this module is imported by every command, a YAML reader by few."""
    found = re.search(r"^  summary: (.+)$", recipe.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


@hookimpl
def detkit_components() -> list[Component]:
    return [
        Component(
            kind="detector", name="rcnn", target="det_heads.rcnn:RCNN", summary="Two-stage detector (R-CNN family)"
        ),
        Component(
            kind="detector",
            name="retinanet",
            target="det_heads.retinanet:RetinaNet",
            summary="One-stage detector on anchors, with the focal loss",
        ),
        Component(
            kind="detector", name="fcos", target="det_heads.fcos:FCOS", summary="One-stage detector without anchors"
        ),
        Component(
            kind="detector",
            name="semantic",
            target="det_heads.semantic:SemanticSegmenter",
            summary="Semantic segmentation: a class for every pixel",
        ),
        Component(
            kind="semantic_head",
            name="semantic-fpn",
            target="det_heads.semantic_head:SemanticFPN",
            summary="Classes of pixels from all levels of a pyramid",
        ),
        Component(
            kind="detector",
            name="proposal-network",
            target="det_heads.proposal_network:ProposalNetwork",
            summary="Proposals alone: boxes of objects of any class",
        ),
        Component(kind="proposal_generator", name="rpn", target="det_heads.rpn:RPN", summary="Region proposal network"),
        Component(
            kind="proposal_generator",
            name="rrpn",
            target="det_heads.rotated_rpn:RotatedRPN",
            summary="Region proposal network of rotated boxes",
        ),
        Component(
            kind="roi_head",
            name="rotated_box",
            target="det_heads.rotated_box_head:RotatedBoxHead",
            summary="Classes and boxes of rotated regions",
        ),
        Component(
            kind="roi_head", name="box", target="det_heads.box_head:BoxHead", summary="Classes and boxes of regions"
        ),
        Component(
            kind="roi_head",
            name="cascade",
            target="det_heads.cascade:CascadeHead",
            summary="Classes and boxes of regions in stages (Cascade R-CNN)",
        ),
        Component(
            kind="roi_head",
            name="keypoint",
            target="det_heads.keypoint_head:KeypointHead",
            summary="Keypoints of detections",
        ),
        Component(
            kind="roi_head",
            name="rfcn",
            target="det_heads.rfcn_head:RFCNHead",
            summary="Classes and boxes of regions from position-sensitive maps (R-FCN)",
        ),
        Component(kind="roi_head", name="mask", target="det_heads.mask_head:MaskHead", summary="Masks of detections"),
        Component(
            kind="checkpoint_format",
            name="torchvision",
            target="det_heads.torchvision_weights:TorchvisionFormat",
            summary="torchvision's detectors by name (maskrcnn_resnet50_fpn), or .pth files of theirs",
        ),
        *(
            Component(kind="recipe", name=file.stem, target=f"det_heads:recipes/{file.name}", summary=_summary(file))
            for file in sorted(RECIPES.glob("*.yaml"))
        ),
    ]
