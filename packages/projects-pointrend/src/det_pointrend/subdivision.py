"""Rendering by adaptive subdivision: a grid of few cells becomes one of many; what is uncertain alone is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from det_pointrend.points import grid_points


@dataclass(frozen=True)
class Subdivision:
    """How a grid becomes finer (Kirillov et al., PointRend, 2020, section 3.1). Shapes follow from the numbers here
    alone, so that it can be exported.

    Args:
        steps: each doubles the sides of the grid.
        points: so many of the most uncertain cells are computed anew in each step.

    Raises:
        ValueError: negative steps, or no points.
    """

    steps: int = 5
    points: int = 28 * 28

    def __post_init__(self) -> None:
        if self.steps < 0 or self.points < 1:
            raise ValueError(f"steps {self.steps}, points {self.points}: steps from 0 and points from 1 are needed")

    def first(self, size: int) -> tuple[int, int]:
        """The side of the grid to begin with and the steps left, for a grid of `size` by `size` cells: where a step
        would compute all cells anyway, the one before it is left out."""
        steps = self.steps
        while steps and 4 * size * size <= self.points:
            size, steps = 2 * size, steps - 1
        return size, steps

    def render(self, evaluate: Callable[[Tensor], Tensor], regions: int, size: int, device: torch.device) -> Tensor:
        """Logits (R, S, S) of masks, S = size * 2**steps, where `evaluate` gives those (R, P) of points (R, P, 2)."""
        size, steps = self.first(size)
        points = grid_points(size, device).expand(regions, -1, -1)
        logits = evaluate(points).view(regions, 1, size, size)
        return refine(
            logits,
            lambda points: evaluate(points)[:, None],
            lambda logits: -logits[:, 0].abs(),
            steps=steps,
            points=self.points,
        )[:, 0]


def refine(
    values: Tensor,
    evaluate: Callable[[Tensor], Tensor],
    uncertainty: Callable[[Tensor], Tensor],
    *,
    steps: int,
    points: int,
) -> Tensor:
    """Double the sides of grids `steps` times; each time the most uncertain cells are computed, and the others
    interpolated.

    Args:
        values: (R, C, H, W).
        evaluate: points (R, P, 2) -> values (R, C, P).
        uncertainty: values (R, C, h, w) -> (R, h, w), greatest where least certain.
        steps: how often.
        points: the number of cells that are computed each time; all where there are fewer.
    """
    for _ in range(steps):
        values = F.interpolate(values, scale_factor=2, mode="bilinear")
        height, width = values.shape[2:]
        chosen = uncertainty(values).flatten(1).topk(min(points, height * width), dim=1, sorted=False).indices
        found = evaluate(cell_centres(chosen, height, width))
        index = chosen[:, None].expand(-1, values.shape[1], -1)
        values = values.flatten(2).scatter(2, index, found.to(values.dtype)).unflatten(2, (height, width))
    return values


def cell_centres(index: Tensor, height: int, width: int) -> Tensor:
    """The centres (..., 2) of the cells at `index` (...) of a grid, counted row by row."""
    return torch.stack([(index % width + 0.5) / width, (index // width + 0.5) / height], dim=-1)
