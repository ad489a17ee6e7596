from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from detkit.config import build
from detkit.detector import Detector
from detkit.layers import FrozenBatchNorm
from detkit.program import export_program
from detkit.testing.inputs import CATEGORIES, random_batch
from detkit.testing.modules import assert_same, unlike_new_norms
from detkit.tta import Augmentation

BACKBONES: dict[str, dict[str, Any]] = {
    "plain": {"norm": "bn"},
    "frozen": {"norm": "frozen_bn", "freeze_at": 2},
    "resnext": {"norm": "bn", "groups": 4, "width_per_group": 4},
    "deformable": {"norm": "sync_bn", "deform": ["res4", "res5"], "modulated": True},
}


def model(backbone: str) -> Detector:
    torch.manual_seed(0)
    spec = {
        "name": "rcnn",
        "backbone": {"name": "resnet", "depth": 50, "width": 16, **BACKBONES[backbone]},
        "neck": {"name": "fpn", "channels": 32, "norm": "bn"},
        "proposal_generator": {"name": "rpn", "pre_nms_test": 100, "post_nms_test": 40},
        "heads": {
            "box": {"name": "box", "channels": 32, "score_threshold": 0.0},
            "mask": {"name": "mask", "channels": 16, "layers": 1},
        },
    }
    found = build(spec, Detector, categories=CATEGORIES).eval()
    unlike_new_norms(found)
    return found


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert expected["valid"].any()
    assert_same(found, expected, 1e-5, of_largest=True)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_all_batch_norms_fold_and_the_answer_stays(backbone: str) -> None:
    whole, batch = model(backbone), random_batch(1)
    with torch.no_grad():
        expected = whole.detect(batch.images, batch.sizes)
        fast = whole.inference_copy()
        assert_equal(fast.detect(batch.images, batch.sizes), expected)
        assert_equal(whole.detect(batch.images, batch.sizes), expected)
    kinds = (FrozenBatchNorm, torch.nn.modules.batchnorm._BatchNorm)
    assert not any(isinstance(module, kinds) for module in fast.modules())


def test_an_optimised_model_exports() -> None:
    whole, batch = model("deformable"), random_batch(1)
    height, width = batch.images.shape[2:]
    with torch.no_grad():
        expected = whole.detect(batch.images, batch.sizes)
        program = export_program(whole.optimize(), height, width).module()
        assert_equal(program(batch.images, batch.sizes), expected)


def test_an_optimised_model_sees_several_views() -> None:
    whole = model("plain")
    image, views = random_batch(1).images[0], Augmentation(scales=[1.0], flip=True)
    expected = whole.predict(image, tta=views)
    found = whole.optimize().predict(image, tta=views)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
