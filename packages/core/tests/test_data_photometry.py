"""Colours change as torchvision and Detectron2 define it, to a grey level."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from detkit.data.transforms import photometry
from detkit.data.transforms.colour import (
    ColorAugSSD,
    ColorJitter,
    PhotometricDistort,
    RandomBrightness,
    RandomContrast,
    RandomLighting,
    RandomSaturation,
)
from detkit.interfaces import Transform
from detkit.structures.sample import Sample

SIZE = (37, 53)


def image(seed: int = 0, by_pixel: bool = True) -> tv_tensors.Image:
    """Colours of all sorts: noise, grey and its neighbours, black and white."""
    source = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (*SIZE, 3), dtype=torch.uint8, generator=source)
    pixels[:9] = pixels[:9, :, :1]
    pixels[5:9, :, 1] = (pixels[5:9, :, 1].int() + 1).clamp(max=255).to(torch.uint8)
    pixels[9] = 0
    pixels[10] = 255
    planes = pixels.permute(2, 0, 1)
    return tv_tensors.Image(planes if by_pixel else planes.contiguous())


def difference(first: torch.Tensor, second: torch.Tensor) -> int:
    return int((first.int() - second.int()).abs().max())


@pytest.mark.parametrize("by_pixel", [True, False])
@pytest.mark.parametrize(
    ("operation", "theirs"),
    [
        (photometry.brightness, F.adjust_brightness),
        (photometry.contrast, F.adjust_contrast),
        (photometry.saturation, F.adjust_saturation),
    ],
)
@given(factor=st.floats(0, 2.5), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=25)
def test_factors_are_torchvisions(
    operation: Callable[..., Any], theirs: Callable[..., Any], by_pixel: bool, factor: float, seed: int
) -> None:
    given_image = image(seed, by_pixel)
    found = photometry.changed(given_image, [(operation, factor)])
    assert difference(found, theirs(given_image, factor)) <= 1
    assert found.stride() == given_image.stride()


@given(shift=st.floats(-0.5, 0.5), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=50)
def test_hue_is_torchvisions(shift: float, seed: int) -> None:
    given_image = image(seed)
    found = photometry.changed(given_image, [(photometry.hue, shift)])
    assert difference(found, F.adjust_hue(given_image, shift)) <= 1


@given(factor=st.floats(0, 3))
@settings(deadline=None, max_examples=25)
def test_detectron2s_blends(factor: float) -> None:
    pixels = image()
    numbers = pixels.permute(1, 2, 0).numpy().astype(np.float64)
    grey = numbers @ (0.299, 0.587, 0.114)
    for operation, other in (
        (photometry.brightness, 0.0),
        (photometry.contrast_of_colours, numbers.mean()),
        (photometry.saturation_of_colours, grey[..., None]),
    ):
        expected = np.clip(factor * numbers + (1 - factor) * other, 0, 255).astype(np.uint8)
        found = photometry.changed(pixels, [(operation, factor)]).permute(1, 2, 0)
        assert difference(found, torch.from_numpy(expected)) <= 1


@given(factor=st.floats(0, 2))
@settings(deadline=None, max_examples=25)
def test_saturation_of_hsv(factor: float) -> None:
    """Against the definition, number by number, but for rounding."""
    import colorsys

    pixels = image()[:, 8:12, :8]
    found = photometry.changed(pixels, [(photometry.saturation_hsv, factor)])
    for y in range(4):
        for x in range(8):
            hue, saturation, value = colorsys.rgb_to_hsv(*(pixels[:, y, x] / 255).tolist())
            expected = colorsys.hsv_to_rgb(hue, min(1, saturation * factor), value)
            assert found[:, y, x].tolist() == pytest.approx([255 * number for number in expected], abs=0.51)


def test_operations_follow_each_other() -> None:
    steps = [(photometry.brightness, 1.3), (photometry.contrast, 0.7), (photometry.permuted, (2, 0, 1))]
    one_by_one = image()
    for step in steps:
        one_by_one = photometry.changed(one_by_one, [step])
    assert torch.equal(photometry.changed(image(), steps), one_by_one)
    assert difference(one_by_one, F.adjust_contrast(F.adjust_brightness(image(), 1.3), 0.7)[[2, 0, 1]]) <= 1


def test_parts_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [(photometry.contrast, 1.4), (photometry.saturation, 0.4), (photometry.hue, 0.2)]
    whole = photometry.changed(image(), steps)
    monkeypatch.setattr(photometry, "_PART", 100)
    assert torch.equal(photometry.changed(image(), steps), whole)


def test_an_image_is_never_changed_in_place() -> None:
    given_image = image()
    photometry.changed(given_image, [(photometry.brightness, 0.1), (photometry.hue, 0.3)])
    assert torch.equal(given_image, image())


@pytest.mark.parametrize(
    "transform",
    [
        ColorJitter(hue=0.2),
        PhotometricDistort(1.0),
        ColorAugSSD(),
        RandomBrightness(0.5, 0.8),
        RandomContrast(0.5, 0.8),
        RandomSaturation(0.1, 0.3),
        RandomLighting(0.5),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_colours_change_at_random(transform: Transform) -> None:
    found = []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        found.append(transform(Sample(image())).image)
    assert torch.equal(found[0], found[1])
    assert any(not torch.equal(found[0], other) for other in found[2:])
    assert all(each.shape == (3, *SIZE) and each.dtype == torch.uint8 for each in found)


def test_ranges_of_one_change_nothing() -> None:
    sample = Sample(image())
    assert ColorJitter(0, 0, 0, 0)(sample) is sample
    assert PhotometricDistort(0.0)(sample) is sample


def test_lighting_moves_colours_as_far_as_the_paper_does() -> None:
    torch.manual_seed(0)
    grey = Sample(tv_tensors.Image(torch.full((3, 4, 4), 128, dtype=torch.uint8)))
    moved = torch.stack([RandomLighting(0.1)(grey).image[:, 0, 0].float() - 128 for _ in range(300)])
    expected = 255 * 0.1 * 0.2175 * torch.tensor((0.5675, 0.5808, 0.5836))  # the first direction is nearly all of it
    assert torch.allclose(moved.std(dim=0), expected, rtol=0.15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ColorJitter(hue=0.6), "hue up to 0.5"),
        (lambda: PhotometricDistort(2.0), "from 0 to 1"),
        (lambda: PhotometricDistort(contrast=(1.5, 0.5)), "the smaller first"),
        (lambda: ColorAugSSD(hue_delta=100), "hue up to 90"),
        (lambda: RandomBrightness(-1, 1), "intensity_min"),
        (lambda: RandomLighting(-0.1), "0 or more"),
    ],
)
def test_wrong_arguments_are_explained(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
