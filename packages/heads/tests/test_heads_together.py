"""Cascade, mask and keypoint heads in one detector."""

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from det_heads.rcnn import RCNN
from detkit.config import build
from detkit.detector import Detector
from detkit.structures.batch import Batch, Targets
from detkit.testing.inputs import CATEGORIES, random_batch
from detkit.tta import Augmentation

SPEC: dict[str, Any] = {
    "name": "rcnn",
    "backbone": {"name": "resnet", "depth": 18, "norm": "gn", "width": 32},
    "neck": {"name": "fpn", "channels": 32},
    "proposal_generator": {"name": "rpn", "pre_nms_test": 100, "post_nms_test": 40},
    "heads": {
        "box": {
            "name": "cascade",
            "channels": 32,
            "score_threshold": 0.0,
            "class_loss": "sigmoid",
            "federated": {"classes": 2, "class_frequencies": [1, 2, 3]},
        },
        "mask": {"name": "mask", "channels": 16, "layers": 1, "norm": "bn"},
        "keypoint": {"name": "keypoint", "channels": [16]},
    },
}


def make() -> RCNN:
    torch.manual_seed(0)
    model = build(SPEC, Detector, categories=CATEGORIES)
    assert isinstance(model, RCNN)
    return model


def test_all_of_them_answer() -> None:
    image = torch.randint(256, (3, 128, 192), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    info = {"original_size": (256, 384)}
    model = make().eval()
    with torch.no_grad():
        (small,) = model([image])
        (large,) = model(Batch.collate([image], divisor=model.divisor, info=[info]))
    count = len(small)
    assert count > 50
    assert small.masks.shape == (count, 128, 192)
    assert small.keypoints.shape == (count, 4, 3)
    torch.testing.assert_close(large.keypoints, small.keypoints * torch.tensor([2.0, 2, 1]), rtol=1e-4, atol=1e-3)


def test_keypoints_of_several_views_are_averaged() -> None:
    image = torch.randint(256, (3, 128, 192), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = make().eval().predict_views(image, Augmentation(scales=(0.5, 1.0)))
    assert found.keypoints.shape == (len(found), 4, 3)
    assert found.keypoints.isfinite().all()


def test_losses_do_not_depend_on_how_the_heads_are_ordered() -> None:
    model, batch = make().eval(), random_batch(1)
    before = model.losses(batch)
    model.heads = torch.nn.ModuleDict({name: model.heads[name] for name in ("keypoint", "box", "mask")})
    after = model.losses(batch)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_on_a_gpu_nothing_depends_on_values() -> None:
    """Losses and detections run on imagined CUDA tensors, which have shapes but no values."""
    with FakeTensorMode(), torch.device("cuda"):
        model = make()
        targets = Targets(
            boxes=torch.rand(1, 3, 4),
            labels=torch.zeros(1, 3, dtype=torch.int64),
            valid=torch.ones(1, 3, dtype=torch.bool),
            seeds=torch.zeros(1, dtype=torch.int64),
            masks=torch.zeros(1, 3, 128, 192, dtype=torch.uint8),
            extra={"keypoints": torch.zeros(1, 3, 4, 3)},
        )
        batch = Batch(torch.zeros(1, 3, 128, 192, dtype=torch.uint8), torch.tensor([[128, 192]]), targets)
        losses = model.train().losses(batch)
        with torch.no_grad():
            found = model.eval().detect(batch.images, batch.sizes)
    assert {value.device.type for value in (*losses.values(), *found.values())} == {"cuda"}
    assert found["keypoint_maps"].shape == (1, 100, 4, 56, 56)
