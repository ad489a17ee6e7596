import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from det_heads.box_criterion import BoxCriterion
from det_heads.class_loss import FederatedClasses, FederatedLoss, class_loss, class_probabilities

LOGITS = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))  # three classes and background
LABELS = torch.tensor([[0, 3, 2, 3, 3], [1, 1, 3, 0, 3]])


def test_softmax_is_cross_entropy() -> None:
    expected = F.cross_entropy(LOGITS.flatten(0, 1), LABELS.flatten())
    torch.testing.assert_close(class_loss(LOGITS, LABELS, "softmax").mean(), expected)


def test_sigmoids_add_up_over_the_classes_and_leave_background_out() -> None:
    wanted = F.one_hot(LABELS, 4)[..., :3].float()
    expected = F.binary_cross_entropy_with_logits(LOGITS[..., :3], wanted, reduction="sum")
    torch.testing.assert_close(class_loss(LOGITS, LABELS, "sigmoid").sum(), expected)


def test_classes_that_do_not_count_cost_nothing() -> None:
    counted = torch.tensor([[True, False, True], [False, False, True]])
    found = class_loss(LOGITS, LABELS, "sigmoid", counted)
    wanted = F.one_hot(LABELS, 4)[..., :3].float()
    entropy = F.binary_cross_entropy_with_logits(LOGITS[..., :3], wanted, reduction="none")
    torch.testing.assert_close(found[0], entropy[0, :, 0] + entropy[0, :, 2])
    torch.testing.assert_close(found[1], entropy[1, :, 2])


def test_probabilities_follow_the_loss() -> None:
    torch.testing.assert_close(class_probabilities(LOGITS, "softmax"), LOGITS.softmax(dim=2)[..., :3])
    torch.testing.assert_close(class_probabilities(LOGITS, "sigmoid"), LOGITS[..., :3].sigmoid())


def draw(
    labels: list[list[int]], seeds: torch.Tensor, valid: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """Of ten classes, 10 being background."""
    options = {"class_frequencies": [1.0] * 10, **options}
    given = torch.tensor(labels).expand(len(seeds), -1)
    valid = torch.ones_like(given, dtype=torch.bool) if valid is None else valid
    return FederatedClasses(FederatedLoss(**options), 10, stream=3)(given, valid, seeds)


def test_the_classes_of_the_regions_and_drawn_ones_make_up_the_number() -> None:
    """Background takes a place of its own, as in Detectron2."""
    seeds = torch.arange(50)
    chosen = draw([[2, 2, 7]], seeds, classes=5)
    assert chosen[:, [2, 7]].all()
    assert chosen.sum(dim=1).tolist() == [5] * 50
    assert len({tuple(row) for row in chosen.tolist()}) > 10
    assert draw([[2, 2, 10]], seeds, classes=5).sum(dim=1).tolist() == [4] * 50


def test_the_classes_of_the_regions_count_though_they_be_too_many() -> None:
    assert draw([[1, 4, 6, 10]], torch.arange(3), classes=2).nonzero()[:, 1].tolist() == [1, 4, 6] * 3


def test_padding_has_no_class() -> None:
    valid = torch.tensor([[True, False]])
    frequencies = [0.0] * 10
    assert draw([[3, 8]], torch.arange(1), valid, class_frequencies=frequencies).nonzero()[:, 1].tolist() == [3]


def test_what_is_drawn_follows_the_seed_of_the_image_alone() -> None:
    seeds = torch.tensor([5, 9, 11])
    whole = draw([[2]], seeds, classes=5)
    assert torch.equal(whole, draw([[2]], seeds, classes=5))
    assert torch.equal(whole[1:], draw([[2]], seeds[1:], classes=5))


def test_classes_are_drawn_in_proportion_to_their_frequency_to_a_power() -> None:
    frequencies = [0.0, 1.0, 4.0, 9.0] + [0.0] * 6
    chosen = draw([[0]], torch.arange(20000), classes=2, class_frequencies=frequencies, power=0.5)
    share = chosen[:, 1:].double().mean(dim=0)
    expected = torch.tensor([1.0, 2, 3, 0, 0, 0, 0, 0, 0]).double() / 6
    torch.testing.assert_close(share, expected, atol=0.015, rtol=0)


@pytest.mark.parametrize(
    "content",
    [
        [3, 0, 5],
        [{"id": 7, "image_count": 5}, {"id": 1, "image_count": 3}, {"id": 2, "image_count": 0}],
        {"categories": [{"id": n, "name": "x", "image_count": c} for n, c in ((1, 3), (2, 0), (4, 5))]},
    ],
)
def test_frequencies_come_from_a_file(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "frequencies.json"
    path.write_text(json.dumps(content))
    classes = FederatedClasses(FederatedLoss(class_frequencies=path, power=1.0), 3, stream=3)
    assert classes.weights(torch.device("cpu")).tolist() == [3, 0, 5]


@pytest.mark.parametrize(
    ("frequencies", "message"),
    [
        ((), r"has 0 class_frequencies for 3 classes; losses need one number"),
        ((1, 2), r"has 2 class_frequencies for 3 classes"),
        ((1, 2, -1), r"one number from 0 on for each class"),
        (Path("nowhere.json"), r"nowhere.json cannot be read"),
    ],
)
def test_frequencies_that_do_not_fit_are_refused(frequencies: Any, message: str) -> None:
    classes = FederatedClasses(FederatedLoss(class_frequencies=frequencies), 3, stream=3)  # good enough to predict
    with pytest.raises(ValueError, match=message):
        classes.weights(torch.device("cpu"))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text(json.dumps({"categories": [{"id": 1, "name": "x"}]}))
    classes = FederatedClasses(FederatedLoss(class_frequencies=tmp_path / "coco.json"), 1, stream=3)
    with pytest.raises(ValueError, match=r"neither a list of numbers nor categories with `image_count`"):
        classes.weights(torch.device("cpu"))


def test_a_federated_softmax_is_refused() -> None:
    with pytest.raises(ValueError, match="the federated loss needs class_loss sigmoid, not softmax"):
        BoxCriterion(
            3,
            class_loss="softmax",
            federated=FederatedLoss(),
            box_loss="smooth_l1",
            smooth_l1_beta=0.0,
            box_weights=(1, 1, 1, 1),
            class_weight=1.0,
            box_weight=1.0,
        )
