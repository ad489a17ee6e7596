"""Subdivision: fine grids of which little is computed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_pointrend.points import grid_points
from det_pointrend.subdivision import Subdivision, cell_centres, refine


def disc(points: Tensor) -> Tensor:
    """Logits of a disc at points (..., 2): above 0 inside."""
    return 40 * (0.3 - (points - 0.45).square().sum(dim=-1).sqrt())


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 3))
def test_with_points_for_all_cells_it_is_dense_evaluation(size: int, steps: int) -> None:
    found = Subdivision(steps, (size * 2**steps) ** 2).render(disc, 1, size, torch.device("cpu"))
    side = size * 2**steps
    torch.testing.assert_close(found, disc(grid_points(side, torch.device("cpu"))).view(1, side, side))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 2))
def test_all_cells_of_any_grid_are_computed_where_there_are_points_for_them(
    height: int, width: int, steps: int
) -> None:
    values = refine(
        torch.zeros(2, 1, height, width),
        lambda points: disc(points)[:, None],
        lambda values: values[:, 0],
        steps=steps,
        points=10_000,
    )
    tall, wide = height * 2**steps, width * 2**steps
    centres = cell_centres(torch.arange(tall * wide), tall, wide)
    torch.testing.assert_close(values, disc(centres).view(1, 1, tall, wide).expand(2, -1, -1, -1))


def test_few_points_give_the_mask_of_dense_evaluation() -> None:
    """The boundary of a disc crosses few of the 224 by 224 cells: computing those is enough."""
    subdivision = Subdivision()
    computed = []

    def evaluate(points: Tensor) -> Tensor:
        computed.append(points.shape[1])
        return disc(points)

    found = subdivision.render(evaluate, 1, 7, torch.device("cpu"))
    assert found.shape == (1, 224, 224)
    assert computed == [784] * 4
    dense = disc(grid_points(224, torch.device("cpu"))).view(224, 224)
    assert torch.equal(found[0] > 0, dense > 0)
    assert not torch.equal(
        F.interpolate(disc(grid_points(28, torch.device("cpu"))).view(1, 1, 28, 28), size=224) > 0, dense > 0
    )


def test_cells_that_are_not_computed_are_interpolated() -> None:
    values = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    found = refine(values, lambda points: torch.full((1, 2, 1), 9.0), lambda v: v[:, 0], steps=1, points=1)
    expected = F.interpolate(values, scale_factor=2, mode="bilinear")
    place = expected[0, 0].argmax()
    assert (found.flatten(2)[..., place] == 9).all()
    others = torch.arange(48) != place
    assert torch.equal(found.flatten(2)[..., others], expected.flatten(2)[..., others])


def test_steps_that_would_compute_every_cell_are_left_out() -> None:
    assert Subdivision(5, 784).first(7) == (28, 3)
    assert Subdivision(1, 784).first(7) == (14, 0)
    assert Subdivision(3, 784).first(28) == (28, 3)


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"points": 0}])
def test_subdivision_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="are needed"):
        Subdivision(**wrong)
