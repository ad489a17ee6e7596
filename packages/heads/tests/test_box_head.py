from typing import Any

import pytest
import torch
from torch import Tensor

from det_heads.box_head import BoxHead
from det_heads.class_loss import FederatedLoss
from detkit.config import build
from detkit.interfaces import RoiHead, RoiSamples
from detkit.ops.boxes import decode_boxes
from detkit.structures.batch import Targets
from detkit.structures.shape import Shape
from detkit.testing.inputs import random_boxes, random_features, random_targets

SHAPES = {"p3": Shape(8, 8), "p4": Shape(8, 16)}
FEATURES = random_features(SHAPES, 2)


def make(**changes: Any) -> BoxHead:
    torch.manual_seed(0)
    arguments = {"input_shapes": SHAPES, "in_features": ["p3", "p4"], "num_classes": 3, "channels": 16, **changes}
    head = BoxHead(**arguments)
    torch.nn.init.normal_(head.predictor.deltas.weight, std=0.1)
    return head


def regions() -> tuple[RoiSamples, Targets]:
    """Six regions in each image, the first two of which are foreground, the last of which is padding."""
    targets = random_targets(2)
    boxes = random_boxes(2, 6, seed=3)
    boxes[:, :2] = targets.boxes[:, 1:] + torch.tensor([1.0, -1, 2, 0])
    labels = torch.full((2, 6), 3)
    labels[:, :2] = targets.labels[:, 1:]
    samples = RoiSamples(
        boxes=boxes,
        valid=torch.tensor([True] * 5 + [False]).expand(2, -1),
        labels=labels,
        target_index=torch.tensor([1, 2, 0, 0, 0, 0]).expand(2, -1),
        foreground=4,
    )
    return samples, targets


def test_the_losses_are_means_over_the_regions() -> None:
    head, (samples, targets) = make(smooth_l1_beta=0.5, class_weight=2.0, box_weight=3.0), regions()
    assert samples.labels is not None
    losses = head.losses(FEATURES, samples, targets)
    logits, deltas = head._predict(FEATURES, samples)
    entropy = torch.nn.functional.cross_entropy(logits[:, :5].flatten(0, 1), samples.labels[:, :5].flatten())
    torch.testing.assert_close(losses["box_class"], 2 * entropy)
    expected: Any = 0
    for image in range(2):
        for region in range(2):
            source, target = samples.boxes[image, region], targets.boxes[image, region + 1]
            size, center = source[2:] - source[:2], (source[2:] + source[:2]) / 2
            shift = ((target[2:] + target[:2]) / 2 - center) / size * 10
            scale = ((target[2:] - target[:2]) / size).log() * 5
            found = deltas[image, region, samples.labels[image, region]]
            expected += torch.nn.functional.smooth_l1_loss(found, torch.cat([shift, scale]), beta=0.5, reduction="sum")
    torch.testing.assert_close(losses["box_regression"], 3 * expected / 10)


def test_padding_changes_nothing() -> None:
    head, (samples, targets) = make(), regions()
    before = head.losses(FEATURES, samples, targets)
    samples.boxes[:, 5] = torch.tensor([3.0, 3, 3, 3])
    after = head.losses(FEATURES, samples, targets)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_one_box_for_all_classes() -> None:
    head, (samples, targets) = make(class_agnostic=True), regions()
    assert head.predictor.deltas.out_features == 4
    assert set(head.predictor.rows_per_class) == {"scores.weight", "scores.bias"}
    before = head.losses(FEATURES, samples, targets)
    assert samples.labels is not None
    samples.labels[:, :2] = (samples.labels[:, :2] + 1) % 3
    after = head.losses(FEATURES, samples, targets)
    assert torch.equal(before["box_regression"], after["box_regression"])
    assert not torch.equal(before["box_class"], after["box_class"])


def test_the_heads_that_follow_may_see_the_predicted_boxes() -> None:
    """Those for the true class; of background, where there is none, those for the last class, as in Detectron2."""
    head, (samples, targets) = make(train_on_predicted=True), regions()
    assert samples.labels is not None
    given = samples.boxes.clone()
    _, deltas = head._predict(FEATURES, samples)
    head.losses(FEATURES, samples, targets)
    labels: Tensor = samples.labels.clamp(max=2)
    for image in range(2):
        for region in range(5):
            moved = deltas[image, region, labels[image, region]]
            expected = decode_boxes(given[image, region], moved, (10, 10, 5, 5))
            torch.testing.assert_close(samples.boxes[image, region], expected)
    assert not samples.boxes.requires_grad


def test_by_default_they_see_those_of_the_proposals() -> None:
    head, (samples, targets) = make(), regions()
    given = samples.boxes.clone()
    head.losses(FEATURES, samples, targets)
    assert torch.equal(samples.boxes, given)


def test_boxes_cannot_move_under_shared_features() -> None:
    with pytest.raises(ValueError, match="train_on_predicted moves the regions"):
        make(input_shapes={"region": Shape(8, 32)}, train_on_predicted=True)


def test_federated_losses_know_how_often_classes_occur_in_the_data() -> None:
    spec = {"name": "box", "in_features": ["p3"], "class_loss": "sigmoid", "federated": {"classes": 2, "power": 1}}
    data = {"input_shapes": SHAPES, "num_classes": 3, "class_frequencies": lambda: [3.0, 0.0, 5.0]}
    head = build(spec, RoiHead, **data)
    assert head.criterion.federated.weights(torch.device("cpu")).tolist() == [3, 0, 5]
    spec["federated"] = {"classes": 2, "power": 1, "class_frequencies": [1, 2, 3]}
    head = build(spec, RoiHead, **data)
    assert head.criterion.federated.weights(torch.device("cpu")).tolist() == [1, 2, 3]


def test_federated_losses_need_frequencies_in_training_alone() -> None:
    head, (samples, targets) = make(class_loss="sigmoid", federated=FederatedLoss(classes=2)), regions()
    with torch.no_grad():
        head.detect(FEATURES, samples, torch.tensor([[128, 192]] * 2))
    with pytest.raises(ValueError, match="0 class_frequencies for 3 classes"):
        head.losses(FEATURES, samples, targets)
