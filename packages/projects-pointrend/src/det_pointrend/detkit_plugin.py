"""What det-pointrend provides."""

from __future__ import annotations

import re
from pathlib import Path

from detkit.plugins import Component, hookimpl

RECIPES = Path(__file__).with_name("recipes")
DETECTRON2 = {
    "CoarseMaskHead": "OLD_MASK_HEAD",
    "ImplicitPointRendMaskHead": "IMPLICIT_HEAD",
    "ImplicitPointRendPointSupHead": "IMPLICIT_POINT_SUP_HEAD",
    "MaskRCNNConvUpsamplePointSupHead": "POINT_SUP_HEAD",
    "PointRendMaskHead": "MASK_HEAD",
    "PointRendROIHeads": "ROI_HEADS",
    "PointRendSemSegHead": "SEMANTIC_HEAD",
}
"""What Detectron2 calls the parts that `det_pointrend.detectron2` maps."""


def _summary(recipe: Path) -> str:
    """The summary that `about` gives, read as text: this module is imported by every command, a YAML reader by few."""
    found = re.search(r"^  summary: (.+)$", recipe.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


@hookimpl
def detkit_components() -> list[Component]:
    return [
        Component(
            kind="roi_head",
            name="pointrend",
            target="det_pointrend.mask_head:PointRendHead",
            summary="Masks of detections, point by point",
        ),
        Component(
            kind="roi_head",
            name="implicit-pointrend",
            target="det_pointrend.implicit_head:ImplicitPointRendHead",
            summary="Masks of detections, each a network of its own",
        ),
        Component(
            kind="semantic_head",
            name="pointrend",
            target="det_pointrend.semantic_head:PointRendSemantic",
            summary="Classes of pixels, refined point by point",
        ),
        Component(
            kind="roi_head",
            name="mask-point-sup",
            target="det_pointrend.point_sup:PointSupervisedMaskHead",
            summary="Masks of detections, learned from labelled points",
        ),
        Component(
            kind="dataset",
            name="coco-points",
            target="det_pointrend.coco_points:CocoPoints",
            summary="COCO's format with labelled points of objects",
        ),
        Component(
            kind="transform",
            name="sample_points",
            target="det_pointrend.point_annotations:SamplePoints",
            summary="some of the labelled points of each object",
        ),
        Component(
            kind="command",
            name="data-points",
            target="det_pointrend.data_points:main",
            summary="Label points of objects by their masks.",
        ),
        *(
            Component(
                kind="detectron2_mapping",
                name=name.lower(),
                target=f"det_pointrend.detectron2:{mapping}",
                summary=f"Detectron2's {name}",
            )
            for name, mapping in DETECTRON2.items()
        ),
        *(
            Component(
                kind="recipe", name=file.stem, target=f"det_pointrend:recipes/{file.name}", summary=_summary(file)
            )
            for file in sorted(RECIPES.glob("*.yaml"))
        ),
    ]
