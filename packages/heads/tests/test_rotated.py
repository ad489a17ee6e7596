"""Rotated Faster R-CNN."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from det_heads.anchors import given_anchors, grid_anchors
from det_heads.rotated_rpn import rotated_anchors
from detkit.config import build
from detkit.detector import Detector
from detkit.ops.rotated_iou import rotated_iou
from detkit.structures.batch import Batch
from detkit.testing.inputs import CATEGORIES, random_batch
from detkit.tta import Augmentation

RRPN = {
    "name": "rrpn",
    "sizes": [[16], [24], [32], [48], [64]],
    "aspect_ratios": [0.5, 2.0],
    "angles": [-45, 0, 45, 90],
    "pre_nms_train": 100,
    "pre_nms_test": 100,
    "post_nms_train": 50,
    "post_nms_test": 50,
}


def make(**changes: Any) -> Detector:
    tree = {
        "name": "rcnn",
        "backbone": {"name": "resnet", "depth": 18, "norm": "gn", "width": 32, "stem_channels": 32},
        "neck": {"name": "fpn", "channels": 32},
        "proposal_generator": RRPN,
        "heads": {"box": {"name": "rotated_box", "channels": 64}},
        "sampling": {"batch_size_per_image": 32},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(tree | changes, Detector, categories=CATEGORIES)
    assert isinstance(model, Detector)
    return model


def painted_rectangles(images: int) -> Batch:
    """White and grey turned rectangles on black, of two classes."""
    rng = np.random.default_rng(0)
    pictures, targets = [], []
    for _ in range(images):
        picture = Image.new("RGB", (128, 96), (20, 30, 40))
        boxes = []
        for label, (x, y) in enumerate(((32, 48), (94, 48))):
            width, height, degrees = rng.uniform(36, 50), rng.uniform(14, 20), rng.uniform(-80, 80)
            boxes.append((x, y, width, height, degrees))
            cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            corners = [(u * width / 2, v * height / 2) for u, v in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
            ring = [(x + u * cos + v * sin, y - u * sin + v * cos) for u, v in corners]
            ImageDraw.Draw(picture).polygon(ring, fill=(255, 220, 200) if label else (120, 160, 140))
        pictures.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
        targets.append(
            {"boxes": torch.tensor(boxes), "labels": torch.tensor([0, 1]), "seed": torch.tensor(len(targets))}
        )
    return Batch.collate(pictures, targets, divisor=32)


def test_training_on_turned_rectangles_lowers_the_losses() -> None:
    model, batch = make().train(), painted_rectangles(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    history = []
    for _ in range(32):
        losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    assert set(history[0]) == {"rpn_objectness", "rpn_box", "box_class", "box_regression"}
    for name in ("rpn_objectness", "rpn_box", "box_class"):  # regression begins when there are regions to refine
        start, end = (np.mean([step[name] for step in part]) for part in (history[:4], history[-4:]))
        assert end < 0.8 * start, name


def test_anchors_have_the_asked_area_ratio_and_angle() -> None:
    anchors = torch.tensor(rotated_anchors([32], [0.5, 2.0], [-90, 0, 30]))
    assert anchors.shape == (6, 5)
    torch.testing.assert_close(anchors[:, 2] * anchors[:, 3], torch.full((6,), 1024.0))
    torch.testing.assert_close(anchors[:, 3] / anchors[:, 2], torch.tensor([0.5] * 3 + [2.0] * 3))
    assert anchors[:, 4].tolist() == [-90, 0, 30] * 2
    grid = grid_anchors(anchors, 2, 3, 16, 0.5)
    assert grid.shape == (36, 5)
    assert grid[6 * 4 + 2].tolist() == [24.0, 24.0, *anchors[2, 2:].tolist()]  # second row, second column
    assert given_anchors([rotated_anchors([32], [1.0], [0])], ["p2"])[0].tolist() == [[0, 0, 32, 32, 0]]


def test_predictions_are_scaled_to_the_answered_image() -> None:
    model = make().eval()
    boxes = torch.tensor([[[40.0, 30, 20, 10, 30], [40, 30, 0, 10, 30], [120, 30, 40, 10, 0]]])
    raw = {
        "boxes": boxes,
        "scores": torch.tensor([[0.9, 0.8, 0.7]]),
        "labels": torch.zeros(1, 3, dtype=torch.int64),
        "valid": torch.ones(1, 3, dtype=torch.bool),
    }
    prediction = model.postprocess(raw, [(96, 128)], [(192, 256)])[0]
    expected = torch.tensor([[80.0, 60, 40, 20, 30], [228, 60, 56, 20, 0]])  # the upright one is clipped
    torch.testing.assert_close(prediction.boxes, expected)


def test_losses_are_finite_whatever_the_boxes_are() -> None:
    model = make().train()
    batch = random_batch(2, rotated=True)
    assert batch.targets is not None
    odd = [[5.0, 5, 1, 1, 17], [-300, 900, 40, 10, 45], [60, 60, 4000, 0.5, -179], [50, 50, 30, 20, 1e5]]
    for box in odd:
        boxes = torch.tensor(box).expand_as(batch.targets.boxes).contiguous()
        losses = model.losses(replace(batch, targets=replace(batch.targets, boxes=boxes)))
        assert all(value.isfinite() for value in losses.values()), box


def test_views_of_an_image_are_answered_with_rotated_boxes() -> None:
    image = painted_rectangles(1).images[0]
    model = make(heads={"box": {"name": "rotated_box", "channels": 64, "score_threshold": 0.0}}).eval()
    with torch.no_grad():
        prediction = model.predict_views(image, Augmentation(scales=(1.0,)))
    assert prediction.boxes.shape[1] == 5
    assert len(prediction)


def test_predict_answers_with_rotated_boxes() -> None:
    image = painted_rectangles(1).images[0].permute(1, 2, 0).numpy()
    model = make(heads={"box": {"name": "rotated_box", "channels": 64, "score_threshold": 0.0}})
    prediction = model.predict(image)
    assert prediction.boxes.shape[1] == 5
    overlap: Tensor = rotated_iou(prediction.boxes, prediction.boxes)
    same = prediction.labels[:, None] == prediction.labels
    assert (overlap.fill_diagonal_(0)[same] <= 0.5).all()


@pytest.mark.parametrize("part", ["proposal_generator", "heads"])
def test_rotated_and_upright_parts_do_not_mix(part: str) -> None:
    upright = {"proposal_generator": {"name": "rpn"}, "heads": {"box": {"name": "box"}}}
    with pytest.raises(ValueError, match="rotated"):
        make(**{part: upright[part]})


@pytest.mark.parametrize("change", [{"proposal_generator": {**RRPN, "box_weights": [1, 1, 1, 1]}}])
def test_four_weights_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="five"):
        make(**change)


def test_upright_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="rotated"):
        make().train()(random_batch(1))
