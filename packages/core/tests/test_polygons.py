from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from detkit.structures.polygons import Polygons

SIZE = (24, 40)


def rings_strategy(low: float, high: float) -> st.SearchStrategy[list[list[list[float]]]]:
    coordinate = st.floats(low, high, width=32)
    ring = st.lists(coordinate, min_size=6, max_size=12).map(lambda values: values[: len(values) // 2 * 2])
    return st.lists(st.lists(ring, max_size=3), max_size=4)


INSIDE = rings_strategy(0, 24).map(lambda rings: Polygons.from_rings(rings, SIZE))
ANYWHERE = rings_strategy(-30, 60).map(lambda rings: Polygons.from_rings(rings, SIZE))


def same(first: Polygons, second: Polygons, tolerance: float = 1e-3) -> bool:
    return (
        first.canvas_size == second.canvas_size
        and np.array_equal(first.ring_ends, second.ring_ends)
        and np.array_equal(first.instance_ends, second.instance_ends)
        and np.allclose(first.numpy(), second.numpy(), atol=tolerance)
    )


@given(ANYWHERE)
def test_flipping_twice_changes_nothing(polygons: Polygons) -> None:
    assert same(F.horizontal_flip(F.horizontal_flip(polygons)), polygons)
    assert same(F.vertical_flip(F.vertical_flip(polygons)), polygons)


@given(ANYWHERE)
def test_padding_undoes_cropping(polygons: Polygons) -> None:
    cropped = F.crop(polygons, 3, 5, 10, 20)
    assert cropped.canvas_size == (10, 20)
    assert same(F.pad(cropped, [5, 3, SIZE[1] - 25, SIZE[0] - 13]), polygons)


@given(ANYWHERE)
def test_resizing_back_changes_nothing(polygons: Polygons) -> None:
    assert same(F.resize(F.resize(polygons, [48, 120]), list(SIZE)), polygons)


@given(ANYWHERE)
def test_turning_back_changes_nothing(polygons: Polygons) -> None:
    assert same(F.rotate(F.rotate(polygons, 90, expand=True), -90, expand=True), polygons)


@given(st.lists(st.integers(-30, 60), min_size=6, max_size=6))
def test_clips_to_the_part_inside_the_canvas(triangle: list[int]) -> None:
    clipped = Polygons.from_rings([[triangle]], SIZE).clipped()
    whole = shapely.Polygon(np.reshape(triangle, (3, 2)))
    expected = whole.intersection(shapely.box(0, 0, SIZE[1], SIZE[0])) if whole.area else shapely.Polygon()
    found = shapely.Polygon(clipped.numpy()) if clipped.present.all() else shapely.Polygon()
    assert found.area == pytest.approx(expected.area, abs=0.02)
    if expected.area > 1:
        assert clipped.boxes()[0].tolist() == pytest.approx(expected.bounds, abs=0.01)


@given(INSIDE)
def test_clipping_leaves_what_is_inside(polygons: Polygons) -> None:
    assert polygons.clipped() is polygons


def test_rasterizes_rectangles_exactly() -> None:
    polygons = Polygons.from_rings(
        [[[2, 3, 12, 3, 12, 9, 2, 9]], [], [[0, 0, 2, 0, 2, 2, 0, 2], [5, 5, 7, 5, 7, 7, 5, 7]]], SIZE
    )
    expected = torch.zeros(3, *SIZE, dtype=torch.uint8)
    expected[0, 3:9, 2:12] = 1
    expected[2, :2, :2] = expected[2, 5:7, 5:7] = 1
    assert torch.equal(polygons.rasterize(), expected)
    assert polygons.present.tolist() == [True, False, True]
    assert polygons.boxes().tolist() == [[2, 3, 12, 9], [0, 0, 0, 0], [0, 0, 7, 7]]


def test_mirrors_in_the_plane_as_images_do() -> None:
    polygons = Polygons.from_rings([[[2, 3, 12, 3, 12, 9, 2, 9]]], SIZE)
    mask = polygons.rasterize()
    assert torch.equal(F.horizontal_flip(polygons).rasterize(), mask.flip(2))
    assert torch.equal(F.vertical_flip(polygons).rasterize(), mask.flip(1))


def test_selects_by_mask_and_by_position() -> None:
    polygons = Polygons.from_rings([[[0, 0, 4, 0, 4, 4]], [], [[1, 1, 9, 1, 9, 9], [2, 2, 3, 2, 3, 3]]], SIZE)
    assert same(polygons.select(torch.tensor([False, True, True])), polygons.select(torch.tensor([1, 2])))
    assert len(polygons.select(torch.tensor([2])).ring_ends) == 2
    assert polygons.select(torch.zeros(3, dtype=torch.bool)).num_instances == 0


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda p: p.clone(), lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_know_what_they_are(duplicate: Callable[[Polygons], Polygons]) -> None:
    polygons = Polygons.from_rings([[[0, 0, 4, 0, 4, 4]], []], SIZE)
    copied = duplicate(polygons)
    assert isinstance(copied, Polygons)
    assert same(copied, polygons)


def test_moves_with_composed_transforms_of_torchvision() -> None:
    polygons = Polygons.from_rings([[[2, 3, 12, 3, 12, 9, 2, 9]]], SIZE)
    image = F.to_image(polygons.rasterize().numpy()[0, :, :, None] * 255)
    torch.manual_seed(0)
    image, polygons = v2.Compose([v2.RandomCrop((16, 20)), v2.RandomHorizontalFlip(1), v2.Pad(4)])(image, polygons)
    assert polygons.canvas_size == tuple(image.shape[-2:])
    canvas = Polygons.from_rings([[[4, 4, 24, 4, 24, 20, 4, 20]]], polygons.canvas_size).rasterize()
    assert torch.equal(polygons.rasterize() & canvas, (image > 127).to(torch.uint8))


def test_elastic_transforms_are_refused() -> None:
    polygons = Polygons.from_rings([[[2, 3, 12, 3, 12, 9, 2, 9]]], SIZE)
    with pytest.raises(ValueError, match="elastic transforms bend outlines"):
        v2.ElasticTransform()(F.to_image(np.zeros((*SIZE, 3), np.uint8)), polygons)
