"""Points: what is looked up there, and which are drawn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from det_pointrend.points import (
    FeatureSampler,
    PointSampling,
    grid_points,
    mask_values,
    points_in_image,
    region_seeds,
    sample_maps,
    uniform_points,
)
from detkit.structures.shape import Shape

SHAPES = {"p2": Shape(3, 4), "p3": Shape(2, 8)}


def maps(images: int = 2, height: int = 5, width: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "p2": torch.randn(images, 3, 2 * height, 2 * width, generator=generator),
        "p3": torch.randn(images, 2, height, width, generator=generator),
    }


def by_hand(map: Tensor, x: float, y: float) -> Tensor:
    """Bilinear interpolation of a map (C, H, W) at a place in cells, whose centres have whole numbers."""
    found = torch.zeros(map.shape[0])
    for row in range(map.shape[1]):
        for column in range(map.shape[2]):
            found += map[:, row, column] * max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
    return found


coordinates = st.floats(-60, 100, width=32)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=4), st.integers(0, 1))
def test_features_at_points_are_interpolated_bilinearly(places: list[tuple[float, float]], image: int) -> None:
    features = maps()
    points = torch.tensor(places)[None]
    found = FeatureSampler(SHAPES, ["p2", "p3"])(features)(points, torch.tensor([image]))
    assert found.shape == (1, 5, len(places))
    for position, (x, y) in enumerate(places):
        expected = [by_hand(features[name][image], x / s - 0.5, y / s - 0.5) for name, s in (("p2", 4), ("p3", 8))]
        torch.testing.assert_close(found[0, :, position], torch.cat(expected), atol=1e-4, rtol=1e-4)


def test_regions_of_several_images_are_looked_up_in_any_order() -> None:
    features = maps(images=3)
    images = torch.tensor([2, 0, 1, 0])
    points = torch.rand(4, 7, 2, generator=torch.Generator().manual_seed(1)) * 50 - 5
    look = FeatureSampler(SHAPES, ["p3"])
    together = look(features)(points, images)
    for row, image in enumerate(images.tolist()):
        alone = look({name: each[image : image + 1] for name, each in features.items()})
        torch.testing.assert_close(together[row], alone(points[row : row + 1], torch.tensor([0]))[0])


def test_a_grid_of_points_is_roi_align_with_one_sample() -> None:
    from torchvision.ops import roi_align

    features, boxes = maps(), torch.tensor([[3.0, 2.0, 30.0, 25.0], [10.0, 7.0, 19.0, 39.0]])
    images = torch.tensor([1, 0])
    grid = grid_points(4, boxes.device).expand(2, -1, -1)
    found = FeatureSampler(SHAPES, ["p2"])(features)(points_in_image(boxes, grid), images)
    rois = torch.cat([images[:, None].float(), boxes], dim=1)
    expected = roi_align(features["p2"], rois, 4, 0.25, 1, True)
    torch.testing.assert_close(found.unflatten(2, (4, 4)), expected, atol=1e-4, rtol=1e-4)


def test_gradients_of_looking_up_are_right() -> None:
    map = maps(height=3, width=3)["p3"].double().requires_grad_()
    points, images = torch.tensor([[[7.3, 9.1], [-3.0, 30.0]]]).double(), torch.tensor([1])
    look = FeatureSampler(SHAPES, ["p3"])
    assert gradcheck(lambda map: look({"p3": map})(points, images), (map,))


def test_a_map_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"\['p7'\]; there are p2, p3"):
        FeatureSampler(SHAPES, ["p2", "p7"])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=4))
def test_masks_at_points_are_interpolated_bilinearly(places: list[tuple[float, float]]) -> None:
    masks = (torch.rand(2, 6, 9, generator=torch.Generator().manual_seed(2)) < 0.5).to(torch.uint8)
    points = (torch.tensor(places) / 10).expand(2, -1, -1)
    found = mask_values(masks, torch.tensor([1, 0]), points)
    size = torch.tensor([9.0, 6.0])
    expected = F.grid_sample(masks.flip(0)[:, None].float(), 2 * (points / size)[:, :, None] - 1, align_corners=False)
    torch.testing.assert_close(found, expected[:, 0, :, 0], atol=1e-5, rtol=1e-5)


def test_gradients_of_a_look_up_in_coarse_masks_are_right() -> None:
    masks = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    points = torch.tensor([[[0.3, 0.6]], [[0.9, 0.02]]]).double()
    assert gradcheck(lambda masks: sample_maps(masks, points), (masks,))


def test_random_points_depend_on_the_seed_alone() -> None:
    seeds = torch.tensor([5, 7, 5])
    found = uniform_points(seeds, 1000)
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[1:2], uniform_points(seeds[1:2], 1000))
    assert ((found >= 0) & (found < 1)).all()
    torch.testing.assert_close(found.mean(dim=1), torch.full((3, 2), 0.5), atol=0.03, rtol=0)


def test_a_region_has_the_same_seed_wherever_it_is_computed() -> None:
    seeds = torch.tensor([3, 4])
    assert torch.equal(region_seeds(seeds, torch.tensor([6, 1]), 4), region_seeds(seeds, torch.arange(8), 4)[[6, 1]])


def test_most_of_the_points_drawn_are_uncertain_ones() -> None:
    """Uncertainty is greatest on a line: three quarters of the points are nearest to it of three times as many."""
    sampling = PointSampling(count=200)
    found = sampling.draw(torch.tensor([1, 2]), lambda points: -(points[..., 0] - 0.5).abs())
    assert found.shape == (2, 200, 2)
    distance = (found[..., 0] - 0.5).abs()
    assert distance[:, :150].max() < 0.2  # a quarter of all candidates
    assert distance[:, 150:].max() > 0.4  # the others are anywhere


def test_without_importance_points_are_uniform() -> None:
    seeds = torch.tensor([9])
    found = PointSampling(count=50, oversample=1, importance=0).draw(seeds, lambda points: points[..., 0])
    assert torch.equal(found, uniform_points(seeds, 100)[:, 50:])


@pytest.mark.parametrize("wrong", [{"count": 0}, {"oversample": 0.5}, {"importance": 1.5}])
def test_sampling_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="are needed"):
        PointSampling(**wrong)
