from __future__ import annotations

import pytest

from detkit.analysis import analyze


def test_mask_rcnn_costs_what_was_counted_elsewhere() -> None:
    changes = ["model.backbone.stride_in_1x1=false"]  # as torchvision's, of which the numbers are
    found = analyze("mask-rcnn-r50-fpn-1x", size=(800, 1333), changes=changes)
    assert found.padded == (800, 1344)
    gflop = {cost.name: cost.flops / 1e9 for cost in found.costs}
    expected = {"": 538, "backbone": 175, "neck": 122, "proposal_generator": 106, "heads.box": 29, "heads.mask": 106}
    assert {name: gflop[name] for name in expected} == pytest.approx(expected, abs=0.6)


@pytest.mark.parametrize(
    "recipe", ["mask-rcnn-vitdet-b-100ep", "mask-rcnn-mvitv2-t-fpn-3x", "keypoint-rcnn-r50-fpn-1x"]
)
def test_recipes_are_counted_without_weights(recipe: str) -> None:
    assert analyze(recipe, size=(256, 256)).total.flops > 1e11
