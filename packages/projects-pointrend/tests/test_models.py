"""Whole models with PointRend's heads: other classes, test-time augmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detkit.config import build
from detkit.detector import Detector
from detkit.interfaces import RoiSamples
from detkit.model_directory import save_model
from detkit.structures.categories import Categories
from detkit.testing.inputs import CATEGORIES, SEMANTIC_CATEGORIES
from detkit.transfer import initialise
from detkit.tta import Augmentation

BACKBONE = {"name": "resnet", "depth": 18, "norm": "gn", "width": 16}
NECK = {"name": "fpn", "channels": 16}
SUBDIVISION = {"steps": 2, "points": 49}
POINTREND = {
    "name": "pointrend",
    "coarse_channels": 8,
    "coarse_width": 16,
    "point_channels": 8,
    "point_layers": 1,
    "subdivision": SUBDIVISION,
}
IMPLICIT = {
    "name": "implicit-pointrend",
    "channels": 8,
    "width": 16,
    "point_channels": 8,
    "position_channels": 8,
    "subdivision": SUBDIVISION,
}
SEMANTIC = {
    "name": "semantic",
    "backbone": BACKBONE,
    "neck": NECK,
    "semantic_head": {
        "name": "pointrend",
        "coarse": {"name": "semantic-fpn", "channels": 8},
        "point_channels": 8,
        "point_layers": 1,
        "subdivision": {"steps": 2, "points": 128},
    },
}


INSTANCES = {
    "name": "rcnn",
    "backbone": BACKBONE,
    "neck": NECK,
    "proposal_generator": {"name": "rpn", "pre_nms_test": 50, "post_nms_test": 20},
}
BOX = {"name": "box", "channels": 16, "score_threshold": 0.0, "detections_per_image": 8}
TREES: dict[str, dict[str, Any]] = {
    "pointrend": {**INSTANCES, "heads": {"box": BOX, "mask": POINTREND}},
    "implicit": {**INSTANCES, "heads": {"box": BOX, "mask": IMPLICIT}},
    "semantic": SEMANTIC,
}
SIZES = torch.tensor([[96, 128]])
MORE = ("triangle", "star", "circle", "square")


def make(name: str, categories: Categories = CATEGORIES, pixels: Categories = SEMANTIC_CATEGORIES) -> Any:
    torch.manual_seed(len(categories) + len(pixels))
    model = build(TREES[name], Detector, categories=categories, semantic_categories=pixels).eval()
    with torch.no_grad():
        for part in (model.heads["mask"],) if "heads" in TREES[name] else (model.semantic_head,):
            for each in part.parameters():
                each.normal_(std=0.2)
    return model


def picture() -> Tensor:
    return torch.randint(256, (3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def mask_of_a_triangle(model: Any) -> Tensor:
    features = model.features(picture()[None], SIZES)
    given = RoiSamples(
        boxes=torch.tensor([[[10.0, 10.0, 60.0, 70.0]]]),
        valid=torch.tensor([[True]]),
        labels=torch.tensor([[model.categories.names.index("triangle")]]),
    )
    grid: Tensor = model.heads["mask"].detect(features, given, SIZES).outputs["mask_grid"]
    return grid


@torch.no_grad()
@pytest.mark.parametrize("name", ["pointrend", "implicit"])
def test_masks_of_a_known_class_outlive_a_change_of_classes(name: str) -> None:
    source, model = make(name), make(name, Categories(MORE))
    initialise(model, source.state_dict(), categories=CATEGORIES)
    parameters = dict(model.named_parameters())
    for column in model.class_columns():  # the new class as if its coarse masks said nothing
        parameters[column][:, -4:][:, 1] = 0
    expected = mask_of_a_triangle(source)
    assert expected.std() > 0.01
    torch.testing.assert_close(mask_of_a_triangle(model), expected)


@torch.no_grad()
def test_known_classes_of_pixels_outlive_a_change_of_classes(tmp_path: Path) -> None:
    pixels = Categories(("sky", "road", "things", "grass", "water"))
    source, model = make("semantic"), make("semantic", pixels, pixels)
    initialise(model, save_model(source, tmp_path, config=SEMANTIC))
    parameters = dict(model.named_parameters())
    for column in model.semantic_class_columns():
        parameters[column][:, -5:][:, 1] = 0
    order = [pixels.names.index(name) for name in SEMANTIC_CATEGORIES.names]
    points = torch.rand(1, 20, 2)
    found, expected = (
        each.semantic_head._at_points(features, each.semantic_head.coarse.logits(features), points)
        for each in (model, source)
        for features in [each.features(picture()[None], SIZES)]
    )
    torch.testing.assert_close(found[:, order], expected)


@pytest.mark.parametrize("name", TREES)
def test_one_view_answers_as_prediction_does(name: str) -> None:
    model = make(name)
    found, plain = (
        model.predict_views(picture(), Augmentation(scales=(1.0,), flip=False)),
        model.predict(picture().permute(1, 2, 0).numpy()),
    )
    field = "semantic" if name == "semantic" else "masks"
    assert getattr(found, field).shape == getattr(plain, field).shape
    assert (getattr(found, field) == getattr(plain, field)).float().mean() > 0.98


@pytest.mark.parametrize("name", ["pointrend", "implicit"])
def test_views_of_several_sizes_agree_on_masks(name: str) -> None:
    found = make(name).predict_views(picture(), Augmentation(scales=(1.0, 1.5)))
    assert len(found)
    assert found.masks.shape == (len(found), 96, 128)
