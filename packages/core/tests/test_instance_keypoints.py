from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from detkit.data.targets import best_proposals, collate, cut_to_canvas, select
from detkit.structures.instance_keypoints import InstanceKeypoints
from detkit.structures.proposal_boxes import ProposalBoxes
from detkit.structures.sample import Sample

SIZE = (20, 40)


def eyes(*points: tuple[float, float, float]) -> InstanceKeypoints:
    """Left eye, right eye and nose of one face."""
    return InstanceKeypoints([points], flipped=(1, 0, 2), canvas_size=SIZE)


FACE = eyes((10, 5, 2), (30, 6, 1), (20, 8, 2))


def test_a_mirror_exchanges_left_and_right() -> None:
    assert F.horizontal_flip(FACE).tolist() == [[[10, 6, 1], [30, 5, 2], [20, 8, 2]]]
    assert F.horizontal_flip(F.horizontal_flip(FACE)).tolist() == FACE.tolist()
    assert v2.RandomHorizontalFlip(1.0)(FACE).tolist() == F.horizontal_flip(FACE).tolist()


def test_upside_down_left_stays_left() -> None:
    assert F.vertical_flip(FACE).tolist() == [[[10, 15, 2], [30, 14, 1], [20, 12, 2]]]


def test_resizing_and_cropping_move_the_points() -> None:
    larger = F.resize(FACE, [40, 80])
    assert larger.tolist() == [[[20, 10, 2], [60, 12, 1], [40, 16, 2]]]
    assert larger.canvas_size == (40, 80)
    part = F.crop(FACE, 5, 15, 10, 20)
    assert part.tolist() == [[[-5, 0, 2], [15, 1, 1], [5, 3, 2]]]
    assert part.canvas_size == (10, 20)
    assert F.resize(FACE.select(torch.zeros(1, dtype=torch.bool)), [40, 80]).canvas_size == (40, 80)


def test_points_outside_are_no_longer_labelled() -> None:
    points = eyes((-0.1, 5, 2), (40, 20, 1), (7, 7, 0))
    assert points.cut(SIZE).tolist() == [[[0, 0, 0], [40, 20, 1], [0, 0, 0]]]


def test_copies_keep_what_they_mean() -> None:
    for again in (copy.deepcopy(FACE), FACE.clone(), FACE.select(torch.tensor([0]))):
        assert (again.flipped, again.canvas_size) == (FACE.flipped, FACE.canvas_size)
    assert "canvas_size=(20, 40)" in repr(FACE)


def make_sample() -> Sample:
    target = {
        "boxes": tv_tensors.BoundingBoxes([[0.0, 0, 10, 10], [20, 5, 40, 20]], format="XYXY", canvas_size=SIZE),
        "labels": torch.tensor([0, 1]),
        "crowd": torch.zeros(2, dtype=torch.bool),
        "keypoints": InstanceKeypoints(torch.rand(2, 3, 3) + 1, flipped=(1, 0, 2), canvas_size=SIZE),
        "proposals": ProposalBoxes([[0.0, 0, 8, 8], [50, 0, 60, 8], [35, 15, 70, 30]], canvas_size=SIZE),
        "proposal_scores": torch.tensor([3.0, 2, 1]),
    }
    return Sample(tv_tensors.Image(torch.zeros(3, *SIZE, dtype=torch.uint8)), target, {"image_id": 1})


def test_proposals_are_cut_and_empty_ones_left_out() -> None:
    target = cut_to_canvas(make_sample()).target
    assert target["proposals"].tolist() == [[0, 0, 8, 8], [35, 15, 40, 20]]
    assert target["proposal_scores"].tolist() == [3, 1]


def test_the_best_proposals_are_kept() -> None:
    target = best_proposals(make_sample(), 2).target
    assert target["proposal_scores"].tolist() == [3, 2]
    assert len(target["proposals"]) == 2
    assert best_proposals(make_sample(), 9).target["proposals"].shape == (3, 4)


@pytest.mark.parametrize("transform", [v2.RandomIoUCrop(), v2.RandomRotation(20), v2.RandomZoomOut()])
def test_transforms_that_choose_among_boxes_leave_proposals_alone(transform: v2.Transform) -> None:
    sample = make_sample()
    for _ in range(5):
        image, target = transform(sample.image, sample.target)
        assert target["proposals"].shape == (3, 4)
        assert tuple(target["proposals"].canvas_size) == tuple(image.shape[-2:])


def test_instances_are_chosen_without_proposals() -> None:
    chosen = select(make_sample(), torch.tensor([False, True])).target
    assert chosen["keypoints"].shape == (1, 3, 3)
    assert chosen["proposals"].shape == (3, 4)


def test_a_batch_has_keypoints_and_proposals() -> None:
    sample = make_sample()
    batch = collate([sample, select(best_proposals(sample, 1), torch.tensor([True, False]))], [1, 2], 16)
    assert batch.targets is not None
    assert batch.proposals is not None
    keypoints = batch.targets.extra["keypoints"]
    assert type(keypoints) is Tensor
    assert torch.equal(keypoints[0], sample.target["keypoints"].as_subclass(Tensor))
    assert keypoints[1, 1].abs().sum() == 0
    assert batch.proposals.valid.tolist() == [[True] * 3, [True, False, False]]
    assert type(batch.proposals.boxes) is Tensor
