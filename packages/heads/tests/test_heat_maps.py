import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from det_heads import heat_maps
from det_heads.heat_maps import keypoint_cells, keypoints_in_boxes

SIZE = 56


def by_hand(maps: torch.Tensor, box: torch.Tensor, extent: torch.Tensor) -> torch.Tensor:
    """(K, 3) of one box as Detectron2's `heatmaps_to_keypoints` finds them, for a box in pixels of what the model
    saw."""
    width, height = extent.clamp(min=1).tolist()
    columns, rows = math.ceil(width), math.ceil(height)
    enlarged = F.interpolate(maps[None], size=(rows, columns), mode="bicubic", align_corners=False)[0]
    points = []
    for small, large in zip(maps, enlarged, strict=True):
        index = int(large.argmax())
        score = 1 / (small - large.max()).exp().sum()
        x, y = index % columns + 0.5, index // columns + 0.5
        points.append([float(box[0]) + x * width / columns, float(box[1]) + y * height / rows, float(score)])
    return torch.tensor(points)


def boxes() -> torch.Tensor:
    """Of many sizes: narrow, flat, of less than a pixel, large."""
    sides = [(40.0, 60.0), (56.0, 56.0), (13.2, 90.7), (300.4, 21.0), (0.4, 0.3), (5.5, 7.0), (160.0, 120.5)]
    low = torch.arange(2 * len(sides)).view(-1, 2) * 7.25
    return torch.cat([low, low + torch.tensor(sides)], dim=1)


@pytest.mark.parametrize("chunk", [1, 60000, 1 << 25])
def test_decoding_gives_what_a_plain_implementation_gives(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heat_maps, "CHUNK_VALUES", chunk)
    given = boxes()
    maps = torch.randn(len(given), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 3
    extents = given[:, 2:] - given[:, :2]
    found = keypoints_in_boxes(maps, given, extents)
    expected = [by_hand(*each) for each in zip(maps, given, extents, strict=True)]
    expected[4][:, :2] = given[4, :2] + extents[4] / 2  # of less than a pixel: the middle, in the box and not beside it
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_no_detections_have_no_keypoints() -> None:
    assert keypoints_in_boxes(torch.zeros(0, 3, 8, 8), torch.zeros(0, 4), torch.zeros(0, 2)).shape == (0, 3, 3)


def test_points_scale_with_the_image() -> None:
    given = boxes()[:4]
    maps = torch.randn(4, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    extents = given[:, 2:] - given[:, :2]
    small, large = keypoints_in_boxes(maps, given, extents), keypoints_in_boxes(maps, given * 4, extents)
    torch.testing.assert_close(large, small * torch.tensor([4.0, 4, 1]))


@given(
    corner=st.tuples(st.floats(-50, 900), st.floats(-50, 900)),
    sides=st.tuples(st.floats(14, 700), st.floats(14, 700)),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_point_comes_back_to_within_a_cell(
    corner: tuple[float, float], sides: tuple[float, float], place: tuple[float, float]
) -> None:
    """In boxes with a pixel for each cell; the heat map of a smaller one may lose a lonely peak."""
    low, size = torch.tensor(corner), torch.tensor(sides)
    point = low + size * torch.tensor(place)
    box = torch.cat([low, low + size])[None]
    keypoints = torch.cat([point.clamp(box[0, :2], box[0, 2:]), torch.ones(1)]).view(1, 1, 3)
    cells, inside = keypoint_cells(keypoints, box, 14)
    assert inside.all()
    maps = torch.full((1, 1, 14 * 14), -9.0).scatter(2, cells[..., None], 9.0).view(1, 1, 14, 14)
    found = keypoints_in_boxes(maps, box, box[:, 2:] - box[:, :2])
    limit = size / 14 + 1 + 1e-3  # the cell, and the pixel in which the decoder looks
    assert ((found[0, 0, :2] - point).abs() <= limit).all()
    assert found[0, 0, 2] > 0


@pytest.mark.parametrize(
    ("x", "y", "visibility", "cell", "inside"),
    [
        (10.0, 20.0, 2, 0, True),
        (14.99, 20.0, 1, 1, True),  # cells are 2.5 wide and 5 high
        (19.99, 39.99, 2, 15, True),
        (20.0, 40.0, 2, 15, True),  # on the far edges
        (20.0, 40.01, 2, 0, False),
        (9.99, 25.0, 2, 0, False),
        (12.0, 25.0, 0, 0, False),  # not labelled
    ],
)
def test_the_cell_of_a_point(x: float, y: float, visibility: int, cell: int, inside: bool) -> None:
    given = torch.tensor([[[x, y, visibility]]])
    cells, there = keypoint_cells(given, torch.tensor([[10.0, 20, 20, 40]]), 4)
    assert (cells.tolist(), there.tolist()) == ([[cell]], [[inside]])


def test_a_box_without_area_holds_no_point() -> None:
    box = torch.tensor([[5.0, 5, 5, 9], [5, 5, 5, 9]])
    cells, inside = keypoint_cells(torch.tensor([[[6.0, 6, 2]], [[5, 12, 2]]]), box, 4)
    assert not inside.any()
    assert cells.tolist() == [[0], [0]]
