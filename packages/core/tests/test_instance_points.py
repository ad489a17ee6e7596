"""Points of instances that are no keypoints: a class of a plugin, of which nothing else knows."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from detkit.data.targets import collate, cut_to_canvas, select
from detkit.data.transforms.mixing import joined
from detkit.data.transforms.moving import cropped, warped
from detkit.structures.instance_points import InstancePoints
from detkit.structures.sample import Sample
from detkit.testing.samples import random_sample


class Clicks(InstancePoints):
    """Where somebody clicked, and how sure they were; -9 for no click."""

    unknown: ClassVar[tuple[float, float, float]] = (1.0, 2.0, -9.0)

    def hidden(self, known: Tensor) -> Tensor:
        return known / 2


def sample() -> Sample:
    found = random_sample(2)
    size = tuple(found.image.shape[-2:])
    clicks = Clicks([[[3, 4, 0.5], [20, 10, 8]], [[5, 6, 1], [300, 4, 7]]], canvas_size=size)
    return replace(found, target={**found.target, "clicks": clicks})


def plain(points: Tensor) -> list[list[list[float]]]:
    assert type(points) is Clicks
    found: list[list[list[float]]] = points.as_subclass(Tensor).tolist()
    return found


def test_they_move_in_transforms_of_torchvision() -> None:
    clicks = sample().target["clicks"]
    height, width = clicks.canvas_size
    assert plain(F.horizontal_flip(clicks))[0] == [[width - 3, 4, 0.5], [width - 20, 10, 8]]
    assert plain(F.vertical_flip(clicks))[0] == [[3, height - 4, 0.5], [20, height - 10, 8]]
    larger = F.resize(clicks, [2 * height, 2 * width])
    assert plain(larger)[0] == [[6, 8, 0.5], [40, 20, 8]]
    assert larger.canvas_size == (2 * height, 2 * width)
    assert plain(clicks.clone()) == plain(clicks)


def test_they_move_in_transforms_of_detkit() -> None:
    part = cropped(sample(), 2, 1, 30, 40).target["clicks"]
    assert plain(part)[0] == [[2, 2, 0.5], [19, 8, 8]]
    assert part.canvas_size == (30, 40)
    shifted = warped(sample(), ((1.0, 0.0, 5.0), (0.0, 1.0, 7.0)), (50, 60), 0).target["clicks"]
    assert plain(shifted)[0] == [[8, 11, 0.5], [25, 17, 8]]


def test_nothing_is_known_of_those_outside() -> None:
    assert plain(cut_to_canvas(sample()).target["clicks"])[1] == [[5, 6, 1], [1, 2, -9]]


def test_they_are_covered_chosen_and_joined_with_their_instances() -> None:
    given = sample()
    over = torch.zeros(given.image.shape[-2:], dtype=torch.bool)
    over[4, 3] = True
    assert plain(given.target["clicks"].covered(over))[0] == [[3, 4, 0.25], [20, 10, 8]]
    assert plain(select(given, torch.tensor([False, True])).target["clicks"]) == [[[5, 6, 1], [300, 4, 7]]]
    size = (given.image.shape[1], given.image.shape[2])
    assert len(joined([given.target, given.target], size)["clicks"]) == 4


def test_they_come_to_the_model() -> None:
    batch = collate([sample(), select(sample(), torch.tensor([True, False]))], [1, 2], 16)
    assert batch.targets is not None
    assert type(batch.targets.extra["clicks"]) is Tensor
    assert batch.targets.extra["clicks"].shape == (2, 2, 2, 3)
    assert batch.targets.extra["clicks"][1, 1].abs().sum() == 0


def test_they_show_what_they_are() -> None:
    assert repr(sample().target["clicks"]).startswith("Clicks((2, 2, 3), canvas_size=(")
    with pytest.raises(TypeError):
        Clicks([[[1, 2, 3]]])  # type: ignore[call-arg]
