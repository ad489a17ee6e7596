"""The package's recipes can be built and trained; `test_detectron2` compares them with Detectron2's configs."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from detkit.config import Config
from detkit.structures.batch import Batch
from detkit.testing.inputs import random_batch
from detkit.testing.recipe import RecipeContract

SMALL = ("model.backbone.width=8", "model.neck.channels=16")
INSTANCES = (*SMALL, "model.sampling.batch_size_per_image=32", "model.heads.box.channels=32")
POINTREND = (
    *INSTANCES,
    "model.heads.mask.coarse_channels=8",
    "model.heads.mask.coarse_width=16",
    "model.heads.mask.point_channels=16",
)
IMPLICIT = (
    *INSTANCES,
    "model.backbone.norm=gn",  # random weights without a norm make large features, the cube of which are these masks
    "model.heads.mask.channels=8",
    "model.heads.mask.width=16",
    "model.heads.mask.point_channels=8",
    "model.heads.mask.position_channels=8",
)


class TestRecipes(RecipeContract):
    distribution = "det-pointrend"
    trained: ClassVar = {
        "pointrend-r50-fpn-1x": POINTREND,
        "implicit-pointrend-r50-fpn-1x": IMPLICIT,
        "pointrend-semantic-r101-fpn-cityscapes": (
            *SMALL,
            "model.semantic_head.coarse.channels=16",
            "model.semantic_head.point_channels=16",
        ),
        "mask-rcnn-r50-fpn-3x-point-sup": (*INSTANCES, "model.heads.mask.channels=16"),
        "implicit-pointrend-r50-fpn-3x-point-sup-point-aug": IMPLICIT,
    }

    def batch(self, name: str) -> Batch:
        found = random_batch(1)
        if "point-sup" in name:
            assert found.targets is not None
            boxes = found.targets.boxes
            middle = (boxes[..., :2] + boxes[..., 2:]) / 2
            on = torch.cat([middle, torch.ones_like(middle[..., :1])], dim=-1)
            off = torch.cat([boxes[..., :2] + 1, torch.zeros_like(middle[..., :1])], dim=-1)
            found.targets.extra["points"] = torch.stack([on, off], dim=2)
        return found


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("pointrend-r50-fpn-1x", {"mask AP": 36.2, "mask AP*": 39.7}),
        ("pointrend-r50-fpn-3x", {"mask AP": 38.3, "mask AP*": 41.6}),
        ("pointrend-r101-fpn-3x", {"mask AP": 40.1, "mask AP*": 43.8}),
        ("pointrend-x101-32x8d-fpn-3x", {"mask AP": 41.1, "mask AP*": 44.7}),
        ("pointrend-r50-fpn-cityscapes", {"mask AP": 35.9}),
        ("pointrend-semantic-r101-fpn-cityscapes", {"mIoU": 78.9}),
    ],
)
def test_well_known_results(name: str, metrics: dict[str, float]) -> None:
    assert Config.load(name).tree["about"]["published"] == metrics


def test_what_nobody_published_is_not_said() -> None:
    about = Config.load("implicit-pointrend-r50-fpn-3x").tree["about"]
    assert not {"published", "published by", "model id"} & about.keys()


def test_the_quick_models_differ_in_their_mask_heads_alone() -> None:
    """So that they can be compared."""
    pointrend, mask_rcnn = (Config.load(f"{name}-quickstart").tree for name in ("pointrend", "mask-rcnn"))
    for tree in (pointrend, mask_rcnn):
        tree["model"]["heads"].pop("mask")
        tree["model"]["heads"]["box"].pop("train_on_predicted")
        tree["train"]["optimizer"]["lr_factors"].pop("heads.mask.coarse", None)
        tree.pop("about")
    assert pointrend == mask_rcnn
