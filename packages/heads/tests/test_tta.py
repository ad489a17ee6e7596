"""Test-time augmentation of every detector: one view is plain prediction, and mirrored images get mirrored answers."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detkit.config import build
from detkit.detector import Detector
from detkit.ops.boxes import box_iou
from detkit.structures.prediction import Prediction
from detkit.testing.inputs import CATEGORIES, SEMANTIC_CATEGORIES
from detkit.tta import Augmentation

BACKBONE = {"name": "resnet", "depth": 18, "norm": "gn", "width": 32}
RPN = {"name": "rpn", "pre_nms_test": 100, "post_nms_test": 40}
BOX = {"name": "box", "channels": 32, "score_threshold": 0.1, "detections_per_image": 10}
SEMANTIC = {"name": "semantic-fpn", "channels": 16}
INPUT = {"min_size": 64, "max_size": 128}
RCNN = {
    "name": "rcnn",
    "backbone": BACKBONE,
    "neck": {"name": "fpn", "channels": 32},
    "proposal_generator": RPN,
    "input": INPUT,
}
MODELS: dict[str, dict[str, Any]] = {
    "mask": {**RCNN, "heads": {"box": BOX, "mask": {"name": "mask", "channels": 16, "layers": 1}}},
    "panoptic": {
        **RCNN,
        "heads": {"box": BOX, "mask": {"name": "mask", "channels": 16, "layers": 1}},
        "semantic_head": SEMANTIC,
        "panoptic": {"stuff_area": 64},
    },
    "keypoint": {**RCNN, "heads": {"box": BOX, "keypoint": {"name": "keypoint", "channels": [16]}}},
    "cascade": {**RCNN, "heads": {"box": {**BOX, "name": "cascade"}}},
    "rpn": {
        "name": "proposal-network",
        "backbone": BACKBONE,
        "neck": {"name": "fpn", "channels": 32},
        "proposal_generator": {**RPN, "post_nms_test": 5},
        "input": INPUT,
    },
    "semantic": {
        "name": "semantic",
        "backbone": BACKBONE,
        "neck": {"name": "fpn", "channels": 32},
        "semantic_head": SEMANTIC,
        "input": INPUT,
    },
    "retinanet": {
        "name": "retinanet",
        "backbone": BACKBONE,
        "neck": {"name": "fpn", "channels": 32},
        "sizes": [[32], [64], [128], [256], [512]],
        "layers": 1,
        "channels": 32,
        "score_threshold": 0.02,
        "detections_per_image": 10,
        "input": INPUT,
    },
    "fcos": {
        "name": "fcos",
        "backbone": BACKBONE,
        "neck": {"name": "fpn", "channels": 32},
        "layers": 1,
        "channels": 32,
        "score_threshold": 0.02,
        "detections_per_image": 10,
        "input": INPUT,
    },
}


def make(kind: str) -> Detector:
    torch.manual_seed(0)
    model = build(MODELS[kind], Detector, categories=CATEGORIES, semantic_categories=SEMANTIC_CATEGORIES)
    assert isinstance(model, Detector)
    for name, weights in model.named_parameters():
        if name.endswith(("predictor.scores.weight", "head.logits.weight")):  # untrained heads say the same of all
            weights.data *= 50
    return model.eval()


def picture() -> Tensor:
    noise = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(3))
    return (torch.nn.functional.interpolate(noise[None], (80, 120), mode="bicubic")[0].clamp(0, 1) * 255).byte()


def predict(model: Detector, image: Tensor, augmentation: Augmentation) -> Prediction:
    with torch.no_grad():
        return model.predict_views(image, augmentation)


@pytest.mark.parametrize("name", MODELS)
def test_one_view_answers_as_prediction_does(name: str) -> None:
    model, image = make(name), picture()
    plain, found = model.predict(image), predict(model, image, Augmentation(scales=(1.0,), flip=False))
    assert list(found) == list(plain)
    if "labels" in plain:  # views suppress again, what overlaps more once it is cut to the image
        plain = plain.select(batched_nms(plain.boxes, plain.scores, plain.labels, 0.6 if name == "fcos" else 0.5))
    if "boxes" in plain:
        assert len(plain) > 0
        torch.testing.assert_close(found.boxes, plain.boxes, rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(found.scores, plain.scores)
        assert "labels" not in plain or torch.equal(found.labels, plain.labels)
    if "keypoints" in plain:
        near = (found.keypoints - plain.keypoints)[..., :2].abs().amax(dim=-1) < 0.5
        assert near.float().mean() > 0.9
    for field in {"masks", "semantic", "panoptic"} & set(plain):
        assert (found_of(found, field) == found_of(plain, field)).float().mean() > 0.98


def found_of(prediction: Prediction, field: str) -> Tensor:
    value = getattr(prediction, field)
    assert isinstance(value, Tensor)
    return value


@pytest.mark.parametrize("name", MODELS)
def test_a_mirrored_image_gets_the_mirrored_answer(name: str) -> None:
    model, image = make(name), picture()
    augmentation = Augmentation(scales=(0.75, 1.0))
    straight, mirrored = predict(model, image, augmentation), predict(model, image.flip(2), augmentation)
    if "boxes" in straight:
        x0, y0, x1, y1 = mirrored.boxes.unbind(1)
        turned = torch.stack([120 - x1, y0, 120 - x0, y1], dim=1)
        overlap = box_iou(straight.boxes, turned)
        partner = overlap.argmax(dim=1)
        same = (overlap.amax(dim=1) > 0.9) & ((straight.scores - mirrored.scores[partner]).abs() < 0.05)
        assert same.float().mean() > 0.7  # resizing rounds a mirrored image otherwise
        if "masks" in straight:
            agree = straight.masks[same] == mirrored.masks.flip(-1)[partner[same]]
            assert agree.float().mean() > 0.98
        if "keypoints" in straight:
            assert CATEGORIES.keypoints is not None
            turned = mirrored.keypoints[partner[same]][:, CATEGORIES.keypoints.flipped, 0]
            assert ((120 - turned - straight.keypoints[same][..., 0]).abs() < 1.5).float().mean() > 0.8
    if "semantic" in straight:
        assert (mirrored.semantic.flip(-1) == straight.semantic).float().mean() > 0.98
