from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from det_heads.rcnn import RCNN
from detkit.config import build
from detkit.detector import Detector
from detkit.structures.batch import Batch, Targets
from detkit.testing.inputs import CATEGORIES, random_batch

SPEC: dict[str, Any] = {
    "name": "rcnn",
    "backbone": {"name": "resnet", "depth": 18, "norm": "gn", "width": 32},
    "neck": {"name": "fpn", "channels": 32},
    "proposal_generator": {"name": "rpn", "pre_nms_test": 100, "post_nms_test": 40},
    "heads": {"box": {"name": "box", "channels": 32}, "mask": {"name": "mask", "channels": 16, "layers": 1}},
}


def make(**changes: Any) -> RCNN:
    torch.manual_seed(0)
    model = build({**SPEC, **changes}, Detector, categories=CATEGORIES)
    assert isinstance(model, RCNN)
    return model


def sampled(model: RCNN, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels (B, N) of the regions that the heads are trained on, and their boxes."""
    assert batch.targets is not None
    features = model.features(batch.images, batch.sizes)
    proposals, _ = model.proposal_generator(features, batch.sizes, None)
    samples = model.sample(proposals, batch.targets)
    assert samples.labels is not None
    return torch.where(samples.valid, samples.labels, -1), samples.boxes


def test_ground_truth_is_among_the_regions() -> None:
    model, batch = make(), random_batch(2)
    assert batch.targets is not None
    labels, boxes = sampled(model, batch)
    for image in range(2):
        foreground = boxes[image][(labels[image] >= 0) & (labels[image] < len(CATEGORIES))].tolist()
        assert all(box in foreground for box in batch.targets.boxes[image].tolist())


def test_ground_truth_can_be_left_out() -> None:
    model, batch = make(sampling={"append_targets": False}), random_batch(1)
    assert batch.targets is not None
    _, boxes = sampled(model, batch)
    assert not any(box in boxes[0].tolist() for box in batch.targets.boxes[0].tolist())


def test_the_rpns_losses_are_the_mean_over_images_however_the_batch_is_split() -> None:
    model, batch = make().eval(), random_batch(2)
    assert batch.targets is not None
    whole = model.losses(batch)
    parts = []
    for image in range(2):
        rows = slice(image, image + 1)
        targets = batch.targets
        assert targets.masks is not None
        one = Targets(
            boxes=targets.boxes[rows],
            labels=targets.labels[rows],
            valid=targets.valid[rows],
            seeds=targets.seeds[rows],
            masks=targets.masks[rows],
        )
        parts.append(model.losses(Batch(batch.images[rows], batch.sizes[rows], one)))
    for name in ("rpn_objectness", "rpn_box"):
        torch.testing.assert_close(whole[name], (parts[0][name] + parts[1][name]) / 2, rtol=1e-4, atol=1e-5)


def test_an_image_sees_nothing_of_its_padding() -> None:
    """Whatever lies beyond an image's size is not looked at: the mean colour takes its place."""
    model = make().eval()
    images = torch.randint(256, (1, 3, 128, 192), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([[100, 150]])
    other = images.clone()
    other[:, :, 100:] = 7
    other[:, :, :, 150:] = 200
    with torch.no_grad():
        one, two = model.detect(images, sizes), model.detect(other, sizes)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("size", [(128, 192), (100, 150)])
def test_predictions_are_scaled_to_the_original_image(size: tuple[int, int]) -> None:
    model = make(heads={"box": {"name": "box", "channels": 32, "score_threshold": 0.0}}).eval()
    image = torch.randint(256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    info = {"original_size": (2 * size[0], 3 * size[1])}
    with torch.no_grad():
        (plain,) = model([image])
        (scaled,) = model(Batch.collate([image], divisor=model.divisor, info=[info]))
    torch.testing.assert_close(scaled.boxes, plain.boxes * torch.tensor([3.0, 2, 3, 2]))
    assert torch.equal(scaled.scores, plain.scores)


def test_masks_are_needed_only_by_the_mask_head() -> None:
    batch = random_batch(1)
    assert batch.targets is not None
    batch.targets.masks = None
    assert make(heads={"box": SPEC["heads"]["box"]}).train().losses(batch)
    with pytest.raises(ValueError, match="the mask head needs 'masks'"):
        make().train().losses(batch)


def test_instances_without_a_mask_train_the_box_head_alone() -> None:
    model, batch = make().eval(), random_batch(1)
    assert batch.targets is not None
    assert batch.targets.masks is not None
    before = model.losses(batch)
    batch.targets.extra["has_mask"] = torch.tensor([[True, True, False]])
    without = model.losses(batch)
    batch.targets.masks[:, 2] = 1 - batch.targets.masks[:, 2]
    changed = model.losses(batch)
    assert torch.equal(without["mask"], changed["mask"])
    assert not torch.equal(without["mask"], before["mask"])
    assert torch.equal(without["box_class"], before["box_class"])


def test_training_without_targets_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"needs targets: model\(images, targets\), or model.eval\(\) first"):
        make().train()([torch.zeros(3, 64, 64, dtype=torch.uint8)])


def test_heads_that_want_maps_which_are_not_there_say_so() -> None:
    heads: Mapping[str, Any] = {"box": {"name": "box", "in_features": ["p2", "c5"]}}
    with pytest.raises(ValueError, match=r"the head wants the maps \['p2', 'c5'\]; there are p2, p3, p4, p5, p6"):
        make(heads=heads)


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
        )
        batch = Batch(torch.zeros(1, 3, 128, 192, dtype=torch.uint8), torch.tensor([[128, 192]]), targets)
        losses = model.train().losses(batch)
        with torch.no_grad():
            found = model.eval().detect(batch.images, batch.sizes)
    assert {value.device.type for value in (*losses.values(), *found.values())} == {"cuda"}
    assert found["mask_grid"].shape == (1, 100, 28, 28)
