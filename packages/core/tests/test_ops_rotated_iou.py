import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon
from torch import Tensor

from detkit.ops.boxes import box_iou
from detkit.ops.matching import match_boxes
from detkit.ops.rotated_iou import rotated_iou
from detkit.testing.op import OpContract

OPERATOR = sys.modules["detkit.ops.rotated_iou"]._rotated_iou


def polygon(box: Tensor) -> Polygon:
    """The rectangle of a box: x to the right, y down, degrees counter-clockwise as one sees it."""
    x, y, width, height, degrees = box.tolist()
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(u * width / 2, v * height / 2) for u, v in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    return Polygon([(x + u * cos + v * sin, y - u * sin + v * cos) for u, v in corners])


def reference(a: Tensor, b: Tensor) -> Tensor:
    found = torch.zeros(len(a), len(b))
    for row, p in enumerate(map(polygon, a.double())):
        for column, q in enumerate(map(polygon, b.double())):
            overlap = p.intersection(q).area if p.area and q.area else 0.0
            found[row, column] = overlap / max(p.area + q.area - overlap, 1e-12)
    return found


def random_boxes(count: int, seed: int, *, around: float = 0.0) -> Tensor:
    """Boxes that mostly overlap, turned by up to two full circles."""
    r = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed))
    low = torch.tensor([around, -around, 0.5, 0.5, -720.0])
    return low + r * torch.tensor([100.0, 100.0, 60.0, 60.0, 1440.0])


DEGENERATE = torch.tensor(
    [
        [0.0, 0, 10, 4, 0],
        [0, 0, 4, 10, 90],  # the same rectangle
        [0, 0, 10, 4, 180],
        [0, 0, 10, 4, 1080],
        [0, 0, 10, 4, 45],
        [5, 0, 10, 4, 0],
        [10, 0, 10, 4, 0],  # touches the first
        [0, 4, 10, 4, 0],
        [0, 0, 2, 2, 0],  # inside
        [0, 0, 2, 2, 30],
        [0, 0, 0, 4, 0],  # of no size
        [0, 0, 10, 0, 90],
        [0, 0, 0, 0, 0],
        [0, 0, 1e4, 1e4, 17],
        [3, 1, 4, 2, 0],  # shares a corner and two edges
    ]
)


@pytest.mark.parametrize("around", [0.0, 1e5])
def test_equals_exact_polygons_anywhere(around: float) -> None:
    a, b = random_boxes(30, 1, around=around), random_boxes(30, 2, around=around)
    torch.testing.assert_close(rotated_iou(a, b), reference(a, b), rtol=0, atol=3e-6)


@pytest.mark.parametrize("degrees", [0.0, 90.0, -90.0, 30.0, 45.0, 1e-5, 123.4])
def test_equals_exact_polygons_where_edges_coincide(degrees: float) -> None:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y, width, height, angle = DEGENERATE.unbind(1)
    boxes = torch.stack([x * cos + y * sin + 1000, y * cos - x * sin + 500, width, height, angle + degrees], dim=1)
    torch.testing.assert_close(rotated_iou(boxes, boxes), reference(boxes, boxes), rtol=0, atol=5e-5)


def test_upright_boxes_overlap_as_upright_boxes_do() -> None:
    a, b = (torch.cat([random_boxes(40, seed)[:, :4], torch.zeros(40, 1)], dim=1) for seed in (3, 4))
    corners = [torch.cat([boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2], 1) for boxes in (a, b)]
    torch.testing.assert_close(rotated_iou(a, b), box_iou(*corners), rtol=0, atol=1e-5)


coordinates = st.floats(-1e4, 1e4, width=32)
sides = st.floats(1, 1e3, width=32)
boxes = st.tuples(coordinates, coordinates, sides, sides, st.floats(-720, 720, width=32)).map(
    lambda numbers: torch.tensor([numbers])
)


@given(a=boxes, shift=st.tuples(st.floats(-300, 300, width=32), st.floats(-300, 300, width=32)), b=boxes)
@settings(max_examples=60, deadline=None)
def test_is_symmetric_and_one_for_equal_boxes(a: Tensor, shift: tuple[float, float], b: Tensor) -> None:
    b = torch.cat([a[:, :2] + torch.tensor([shift]), b[:, 2:]], dim=1)
    torch.testing.assert_close(rotated_iou(a, b), rotated_iou(b, a), rtol=0, atol=1e-5)
    torch.testing.assert_close(rotated_iou(a, a), torch.ones(1, 1), rtol=0, atol=1e-5)
    assert 0 <= rotated_iou(a, b).item() <= 1


@given(seed=st.integers(0, 1000), degrees=st.floats(-360, 360), x=st.floats(-500, 500), y=st.floats(-500, 500))
@settings(max_examples=30, deadline=None)
def test_does_not_change_when_everything_is_moved_and_turned(seed: int, degrees: float, x: float, y: float) -> None:
    a, b = random_boxes(6, seed), random_boxes(6, seed + 5000)

    def moved(boxes: Tensor) -> Tensor:
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn, shift = torch.tensor([[cos, -sin], [sin, cos]]), torch.tensor([x, y])
        return torch.cat([boxes[:, :2] @ turn + shift, boxes[:, 2:4], boxes[:, 4:] + degrees], dim=1)

    torch.testing.assert_close(rotated_iou(moved(a), moved(b)), rotated_iou(a, b), rtol=0, atol=1e-4)


def test_a_quarter_turn_with_the_sides_exchanged_is_exactly_the_same() -> None:
    a, b = random_boxes(30, 5), random_boxes(30, 6)
    b[:, 4] = b[:, 4].round()
    turned = torch.stack([b[:, 0], b[:, 1], b[:, 3], b[:, 2], b[:, 4] + 90], dim=1)
    assert (rotated_iou(a, b) == rotated_iou(a, turned)).float().mean() > 0.99


def test_boxes_inside_another_overlap_it_by_the_same_number_wherever_they_are() -> None:
    box = torch.tensor([[200.0, 150, 170, 160, 33]])
    x, y = torch.meshgrid(torch.arange(176.0, 225, 8), torch.arange(134.0, 167, 8), indexing="ij")
    squares = torch.full((x.numel(), 2), 64.0)
    inside = torch.cat([torch.stack([x.flatten(), y.flatten()], dim=1), squares, torch.zeros(x.numel(), 1)], dim=1)
    assert len(rotated_iou(box, inside).unique()) == 1


def test_the_best_anchors_of_an_object_are_those_of_detectron2() -> None:
    """All of these lie inside the object and are as large, but for the last digits of the area of their corners."""
    box = torch.tensor([[[173.51129150390625, 122.01693725585938, 73.960693359375, 103.56719970703125, -63.092987]]])
    root = math.sqrt(2)
    shapes = {"wide": (64 * root, 32 * root), "tall": (32 * root, 64 * root), "square": (64.0, 64.0)}
    anchors = {
        (168, 112, "wide", 30): True,
        (176, 120, "tall", -60): True,
        (176, 120, "square", -60): False,
        (160, 128, "square", -60): True,
        (160, 128, "square", 30): False,
        (168, 128, "square", 30): False,
    }
    given = torch.tensor([(x, y, *shapes[shape], degrees) for x, y, shape, degrees in anchors])
    labels, _ = match_boxes(box, torch.ones(1, 1, dtype=torch.bool), given, low=0.3, high=0.7, keep_best=True)
    assert (labels[0] == 1).tolist() == list(anchors.values())


def test_leading_dimensions_are_batches() -> None:
    a, b = random_boxes(12, 7).view(2, 1, 6, 5), random_boxes(12, 8).view(3, 4, 5)
    found = rotated_iou(a, b)
    assert found.shape == (2, 3, 6, 4)
    torch.testing.assert_close(found[1, 2], rotated_iou(a[1, 0], b[2]))
    assert rotated_iou(a[..., :0, :], b).shape == (2, 3, 0, 4)
    assert rotated_iou(a, b[:, :0]).shape == (2, 3, 6, 0)


def test_the_kernel_for_accelerators_gives_the_same() -> None:
    a, b = random_boxes(40, 9).view(2, 20, 5), random_boxes(60, 10).view(2, 30, 5)
    on_accelerator = OPERATOR._init_fn(a, b, True)  # runs on any device; a CPU has its own kernel
    torch.testing.assert_close(on_accelerator, rotated_iou(a, b, detectron2_rounding=True), rtol=0, atol=1e-6)


def test_operator_registration() -> None:
    torch.library.opcheck(OPERATOR, (random_boxes(6, 11).view(2, 3, 5), random_boxes(8, 12).view(2, 4, 5), True))


class TestOperator(OpContract):
    operator = staticmethod(rotated_iou)
    reference = staticmethod(reference)
    cases = {
        "random": {"a": random_boxes(8, 13), "b": random_boxes(9, 14)},
        "degenerate": {"a": DEGENERATE, "b": DEGENERATE},
    }
