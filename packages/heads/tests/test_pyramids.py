"""Detectors on backbones and necks other than a ResNet with FPN."""

from typing import Any

import pytest
import torch

from detkit.config import build
from detkit.detector import Detector
from detkit.testing.inputs import CATEGORIES, random_batch

RESNET = {"name": "resnet", "depth": 18, "norm": "gn", "width": 8}
HRNET = {"name": "hrnet", "width": 8, "modules": [1, 1, 1], "blocks": 1, "norm": "gn"}


def detector(backbone: dict[str, Any], neck: dict[str, Any]) -> Detector:
    torch.manual_seed(0)
    spec = {
        "name": "rcnn",
        "backbone": backbone,
        "neck": neck,
        "proposal_generator": {"name": "rpn", "pre_nms_test": 100, "post_nms_test": 40},
        "heads": {"box": {"name": "box", "channels": 32, "score_threshold": 0.0}},
    }
    return build(spec, Detector, categories=CATEGORIES)


@pytest.mark.parametrize(
    ("backbone", "neck"),
    [
        (HRNET, {"name": "hrfpn", "channels": 16}),
        (HRNET, {"name": "hrfpn", "channels": 16, "resampling": "learned", "norm": "gn"}),
        (RESNET, {"name": "panet", "channels": 16}),
        (RESNET, {"name": "bifpn", "channels": 16, "layers": 2, "norm": "gn"}),
    ],
    ids=["hrfpn", "hrfpn-learned", "panet", "bifpn"],
)
def test_a_detector_of_these_parts_learns_and_detects(backbone: dict[str, Any], neck: dict[str, Any]) -> None:
    model = detector(backbone, neck).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    batch = random_batch(2)
    loss = torch.stack(list(model.losses(batch).values())).sum()
    loss.backward()
    assert [
        name for name, each in model.named_parameters() if each.grad is None or not each.grad.isfinite().all()
    ] == []
    optimizer.step()
    assert torch.stack(list(model.losses(batch).values())).sum() < loss
    with torch.no_grad():
        found = model.eval()([torch.randint(256, (3, 100, 150), dtype=torch.uint8)])
    assert len(found[0]) > 0
    assert found[0].boxes.isfinite().all()
