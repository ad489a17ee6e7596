"""Detectors on backbones of other libraries, which meet in a config alone."""

from pathlib import Path

import pytest
import torch

from detkit.config import Config
from detkit.model_directory import load, save_model
from detkit.structures.categories import Categories
from detkit.testing.inputs import CATEGORIES, random_batch

CLASSES = Categories(CATEGORIES.names)
NARROW = {
    "proposal_generator": {"post_nms_train": 64, "post_nms_test": 32},
    "sampling": {"batch_size_per_image": 32},
    "heads": {"box": {"channels": 32}},
}
MASKS = {"heads": {"box": {"channels": 32}, "mask": {"channels": 32}}}


@pytest.mark.parametrize(
    ("base", "backbone", "neck", "rest"),
    [
        ("mask-rcnn-r50-fpn-1x", "timm/test_resnet", {}, NARROW | MASKS),
        ("faster-rcnn-r50-fpn-1x", {"name": "timm/test_mambaout", "freeze_at": "stride4"}, {}, NARROW),
        (
            "retinanet-r50-fpn-1x",
            {
                "name": "torchvision/mobilenet_v3_small",
                "frozen_bn": True,
                "out_features": ["stride8", "stride16", "stride32"],
            },
            {"top": "stride32"},
            {"channels": 32},
        ),
    ],
    ids=["mask-rcnn", "faster-rcnn", "retinanet"],
)
def test_a_detector_learns_and_is_saved(base: str, backbone: object, neck: dict, rest: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tree = {"base": base, "init": None, "model": {"backbone": backbone, "neck": {"channels": 32, **neck}, **rest}}
    config = Config.load(tree)
    model = config.build("model", categories=CLASSES).train()
    batch = random_batch(2)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    before = {name: value.detach().clone() for name, value in trained.items()}
    optimizer = torch.optim.SGD(trained.values(), lr=1e-3)
    losses = model.losses(batch)
    sum(losses.values()).backward()
    optimizer.step()
    assert all(value.isfinite() for value in losses.values())
    moved = {name.split(".")[0] for name, value in trained.items() if not torch.equal(value, before[name])}
    assert {"backbone", "neck"} <= moved

    model.eval()
    folder = save_model(model, tmp_path / "model", config=config.tree["model"])
    again = load(folder)
    with torch.no_grad():
        expected, found = (each.detect(batch.images, batch.sizes) for each in (model, again))
    for name, value in expected.items():
        assert torch.equal(found[name], value)
