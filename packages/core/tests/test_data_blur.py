"""Blur along lines."""

import math

import pytest
import torch
from torchvision import tv_tensors

from detkit.data.transforms.blur import RandomMotionBlur, _smeared
from detkit.structures.sample import Sample


def sample(*boxes: list[float]) -> Sample:
    pixels = torch.randint(256, (40, 60, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    corners = torch.tensor(boxes).reshape(-1, 4)
    target = {"boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(40, 60))}
    return Sample(tv_tensors.Image(pixels.permute(2, 0, 1)), target)


@pytest.mark.parametrize(
    ("degrees", "places"),
    [
        (0, [(20, x) for x in range(28, 33)]),
        (90, [(y, 30) for y in range(18, 23)]),
        (45, [(19, 31), (20, 30), (21, 29)]),
    ],
)
def test_a_point_becomes_a_line(degrees: float, places: list[tuple[int, int]]) -> None:
    pixels = torch.zeros(40, 60, 3, dtype=torch.uint8)
    pixels[20, 30] = 255
    smeared = _smeared(pixels, 5, math.radians(degrees))
    assert smeared[..., 0].nonzero().tolist() == sorted(map(list, places))
    assert smeared[..., 0].sum() == 255


def test_one_colour_stays_as_it_is() -> None:
    assert (_smeared(torch.full((9, 7, 3), 200, dtype=torch.uint8), 127, 0.4) == 200).all()


def test_outside_of_instances_nothing_changes() -> None:
    torch.manual_seed(0)
    given = sample([10.0, 5, 30, 25], [-9, 30, 8, 50], [70, 5, 90, 9])
    found = RandomMotionBlur((5, 9), only_instances=True, p=1.0)(given)
    changed = (found.image != given.image).any(dim=0)
    inside = torch.zeros(40, 60, dtype=torch.bool)
    inside[5:25, 10:30] = inside[30:, :8] = True
    assert not changed[~inside].any()
    assert changed[inside].float().mean() > 0.9


@pytest.mark.parametrize("options", [{"p": 0.0}, {"p": 1.0, "only_instances": True}])
def test_without_chance_or_instances_the_sample_stays_itself(options: dict[str, float]) -> None:
    given = sample()
    assert RandomMotionBlur(**options)(given) is given


@pytest.mark.parametrize("kernel_size", [(0, 3), (5, 3), (3, 200)])
def test_impossible_lengths_are_refused(kernel_size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="two lengths in pixels from 1 to 127"):
        RandomMotionBlur(kernel_size)
