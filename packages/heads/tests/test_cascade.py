from typing import Any

import pytest
import torch

from det_heads.cascade import CascadeHead, rematched
from detkit.interfaces import RoiSamples
from detkit.structures.batch import Targets
from detkit.structures.shape import Shape
from detkit.testing.inputs import image_sizes, random_boxes, random_features, random_targets

SHAPES = {"p3": Shape(8, 8), "p4": Shape(8, 16)}


def make(**changes: Any) -> CascadeHead:
    torch.manual_seed(0)
    arguments = {"input_shapes": SHAPES, "in_features": ["p3", "p4"], "num_classes": 3, "channels": 16, **changes}
    return CascadeHead(**arguments)


def regions() -> tuple[RoiSamples, Targets]:
    """Six regions in each image, the first two of which are near the second and third object."""
    targets = random_targets(2)
    boxes = random_boxes(2, 6, seed=3)
    boxes[:, :2] = targets.boxes[:, 1:] + torch.tensor([1.0, -1, 2, 0])
    labels = torch.full((2, 6), 3)
    labels[:, :2] = targets.labels[:, 1:]
    samples = RoiSamples(
        boxes=boxes,
        valid=torch.ones(2, 6, dtype=torch.bool),
        labels=labels,
        target_index=torch.tensor([1, 2, 0, 0, 0, 0]).expand(2, -1),
        foreground=2,
        image_sizes=image_sizes(2),
    )
    return samples, targets


def test_regions_are_matched_anew_by_their_new_boxes() -> None:
    target = torch.tensor([[[0.0, 0, 10, 10], [50, 50, 60, 60]]])
    targets = Targets(
        boxes=target,
        labels=torch.tensor([[2, 1]]),
        valid=torch.ones(1, 2, dtype=torch.bool),
        seeds=torch.zeros(1, dtype=torch.int64),
    )
    boxes = torch.tensor([[[0.0, 0, 10, 6.5], [0, 0, 10, 5.5], [50, 50, 60, 60], [50, 50, 60, 60], [4, 4, 4, 9]]])
    given = RoiSamples(
        boxes=torch.zeros(1, 5, 4),
        valid=torch.tensor([[True, True, True, False, True]]),
        labels=torch.zeros(1, 5, dtype=torch.int64),
        target_index=torch.zeros(1, 5, dtype=torch.int64),
        foreground=1,
    )
    found = rematched(given, boxes, targets, iou=0.6, background=3)
    assert found.labels is not None
    assert found.target_index is not None
    assert torch.equal(found.boxes, boxes)
    assert found.labels.tolist() == [[2, 3, 1, 1, 3]]
    assert found.valid.tolist() == [[True, True, True, False, False]]
    assert found.target_index[0, :4].tolist() == [0, 0, 1, 1]
    assert found.foreground == 5


def test_without_objects_all_regions_are_background() -> None:
    samples, _ = regions()
    found = rematched(samples, samples.boxes, random_targets(2, valid=False), iou=0.6, background=3)
    assert found.labels is not None
    assert found.labels.unique().tolist() == [3]


def test_every_stage_has_its_losses() -> None:
    losses = make(class_weight=0.5).losses(random_features(SHAPES, 2), *regions())
    stages = [f"{what}_stage{stage}" for stage in range(3) for what in ("box_class", "box_regression")]
    assert list(losses) == stages


def test_later_stages_see_what_the_one_before_made_of_the_boxes() -> None:
    """With a first stage that does not move boxes, a region that overlaps an object by 0.8 is foreground everywhere;
    with one that halves them, nowhere after it."""
    features, (samples, targets) = random_features(SHAPES, 2), regions()
    head = make()
    for predictor in head.predictors:
        torch.nn.init.zeros_(predictor.deltas.weight)  # type: ignore[union-attr, arg-type]
    losses = head.losses(features, samples, targets)
    assert losses["box_regression_stage1"] > 0
    with torch.no_grad():
        head.predictors[0].deltas.bias.copy_(torch.tensor([0.0, 0, -5, -5]))  # type: ignore[union-attr]
    losses = head.losses(features, samples, targets)
    assert losses["box_regression_stage0"] > 0
    assert losses["box_regression_stage1"] == 0


def test_the_stages_share_the_gradient_of_the_feature_maps() -> None:
    """A cascade whose stages are alike gives the maps the gradient that one of its stages would give them alone."""
    one = make(ious=[], box_weights=[[10, 10, 5, 5]])
    three = make(ious=[0.5, 0.5], box_weights=[[10, 10, 5, 5]] * 3)
    for trunk, predictor in zip(three.trunks, three.predictors, strict=True):
        trunk.load_state_dict(one.trunks[0].state_dict())
        predictor.load_state_dict(one.predictors[0].state_dict())
    for head in (one, three):
        for predictor in head.predictors:
            torch.nn.init.zeros_(predictor.deltas.weight)  # type: ignore[union-attr, arg-type]
    gradients = []
    for head in (one, three):
        features = random_features(SHAPES, 2, gradient=True)
        samples, targets = regions()
        losses = head.losses(features, samples, targets)
        sum(value for name, value in losses.items() if "class" in name).backward()  # type: ignore[union-attr]
        gradients.append(features["p3"].grad)
    torch.testing.assert_close(gradients[1], gradients[0])
    weight, shared = one.trunks[0].linears[0].weight, three.trunks[0].linears[0].weight  # type: ignore[union-attr, index]
    torch.testing.assert_close(shared.grad, weight.grad)  # the layers themselves learn at full speed


def test_scores_are_the_mean_of_the_stages_and_boxes_are_the_last() -> None:
    head = make(score_threshold=0.0, nms_iou=1.0, box_weights=[[10, 10, 5, 5], [20, 20, 10, 10], [30, 30, 15, 15]])
    shifts = ([10.0, 0, 0, 0], [0, 20.0, 0, 0], [0, 0, 15.0, 0])  # a box to the right, a box down, e times as wide
    scores = ([4.0, 0, 0, 0], [0, 4.0, 0, 0], [0, 0, 0, 0])
    with torch.no_grad():
        for predictor, shift, score in zip(head.predictors, shifts, scores, strict=True):
            for layer, bias in ((predictor.deltas, shift), (predictor.scores, score)):
                layer.weight.zero_()  # type: ignore[union-attr, operator]
                layer.bias.copy_(torch.tensor(bias))  # type: ignore[union-attr]
    boxes = torch.tensor([[[20.0, 20, 30, 40]]])
    samples = RoiSamples(boxes=boxes, valid=torch.ones(1, 1, dtype=torch.bool))
    with torch.no_grad():
        found = head.detect(random_features(SHAPES, 1), samples, image_sizes(1))
    width = 10 * torch.e
    expected = torch.tensor([35 - width / 2, 40, 35 + width / 2, 60])
    torch.testing.assert_close(found.boxes, expected.expand(1, 3, 4))
    probabilities = torch.tensor(scores).softmax(dim=1).mean(dim=0)[:3]
    assert found.scores is not None
    assert found.labels is not None
    torch.testing.assert_close(found.scores[0], probabilities.sort(descending=True).values)
    assert sorted(found.labels[0].tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ious": [0.6]}, r"3 box_weights for 2 stages; give one for each"),
        ({"input_shapes": {"region": Shape(8, 32)}}, r"a cascade pools regions in every stage, a roi_trunk once"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)
