"""PointRend for classes of pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from det_heads.semantic_head import SemanticFPN
from det_pointrend.points import PointSampling, grid_points
from det_pointrend.semantic_head import PointRendSemantic, labels_at, uncertainty
from det_pointrend.subdivision import Subdivision
from detkit.structures.batch import UNLABELLED
from detkit.structures.shape import Shape
from detkit.testing.inputs import HEIGHT, WIDTH, random_features, random_targets

SHAPES = {"p2": Shape(6, 4), "p3": Shape(6, 8)}


def head(**arguments: Any) -> PointRendSemantic:
    torch.manual_seed(0)
    coarse = SemanticFPN(input_shapes=SHAPES, num_semantic_classes=4, in_features=["p2", "p3"], channels=8)
    small = {"point_channels": 8, "sampling": PointSampling(50), "subdivision": Subdivision(2, 300)}
    found = PointRendSemantic(input_shapes=SHAPES, num_semantic_classes=4, coarse=coarse, **small | arguments)
    with torch.no_grad():
        for each in found.parameters():
            each.normal_(std=0.5)
    return found


@torch.no_grad()
def test_the_coarse_logits_are_kept_where_they_are_certain() -> None:
    model, features = head(), random_features(SHAPES, 2)
    found = model(features)
    coarse = model.coarse.logits(features)
    doubled = F.interpolate(F.interpolate(coarse, scale_factor=2, mode="bilinear"), scale_factor=2, mode="bilinear")
    assert found.shape == (2, 4, HEIGHT, WIDTH)
    changed = (found != doubled).any(dim=1)
    assert 300 <= changed[0].sum() <= 300 + 300 * 16  # a cell of the first step reaches so far at most
    margin = uncertainty(doubled)
    assert margin[changed].mean() > margin[~changed].mean()


@torch.no_grad()
def test_with_points_for_all_pixels_it_is_dense_evaluation() -> None:
    model, features = (
        head(subdivision=Subdivision(2, HEIGHT * WIDTH), point_features=["p2", "p3"]),
        random_features(SHAPES, 1),
    )
    y, x = torch.meshgrid((torch.arange(HEIGHT) + 0.5) / HEIGHT, (torch.arange(WIDTH) + 0.5) / WIDTH, indexing="ij")
    points = torch.stack([x, y], dim=-1).view(1, -1, 2)
    expected = model._at_points(features, model.coarse.logits(features), points)
    torch.testing.assert_close(model(features).flatten(2), expected)


@torch.no_grad()
def test_what_lacks_after_the_last_step_is_interpolated() -> None:
    model, features = head(subdivision=Subdivision(1, 300)), random_features(SHAPES, 1)
    assert (model.stride, model.logits(features).shape) == (2, (1, 4, HEIGHT // 2, WIDTH // 2))
    assert model(features).shape == (1, 4, HEIGHT, WIDTH)


def test_its_losses_are_the_coarse_heads_and_that_of_points() -> None:
    model, features, targets = head(), random_features(SHAPES, 2), random_targets(2)
    losses = model.losses(features, targets)
    torch.testing.assert_close(losses["semantic"], model.coarse.losses(features, targets)["semantic"])
    coarse = model.coarse.logits(features)
    points = model.sampling.draw(
        targets.seeds,
        lambda points: uncertainty(F.grid_sample(coarse, 2 * points[:, :, None] - 1, align_corners=False).squeeze(3)),
    )
    assert targets.semantic is not None
    wanted = labels_at(targets.semantic, points)
    entropy = F.cross_entropy(model._at_points(features, coarse, points), wanted, ignore_index=UNLABELLED)
    torch.testing.assert_close(losses["semantic_point"], entropy)


def test_labels_of_points_are_those_of_the_pixels_they_lie_in() -> None:
    maps = torch.arange(2 * 3 * 3).view(2, 3, 3)
    points = grid_points(3, torch.device("cpu")).expand(2, -1, -1)
    assert torch.equal(labels_at(maps, points), maps.flatten(1))
    assert labels_at(maps, torch.tensor([[[0.99, 0.01]], [[0.34, 0.99]]])).tolist() == [[2], [16]]


def test_more_steps_than_the_stride_has_doublings_are_refused() -> None:
    with pytest.raises(ValueError, match="stride 4, which cannot be halved as often"):
        head(subdivision=Subdivision(3, 300))
