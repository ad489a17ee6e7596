import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit.ops.boxes import (
    MAX_LOG_SCALE,
    box_area,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    mirror_boxes,
    resized_boxes,
    scale_boxes,
)

WEIGHTS = (10.0, 10.0, 5.0, 5.0, 2.0)


def random_boxes(count: int, seed: int) -> torch.Tensor:
    r = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed))
    return r * torch.tensor([100.0, 100, 60, 60, 359]) + torch.tensor([0.0, 0, 5, 5, -180])


def test_deltas_are_those_of_the_definition() -> None:
    anchor, box = torch.tensor([[10.0, 20, 8, 4, 170]]), torch.tensor([[14.0, 19, 16, 2, -160]])
    expected = [10 * 4 / 8, 10 * -1 / 4, 5 * math.log(2), 5 * math.log(0.5), 2 * math.radians(30)]
    torch.testing.assert_close(encode_boxes(anchor, box, WEIGHTS), torch.tensor([expected]))


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_decoding_inverts_encoding(seed: int) -> None:
    anchors, boxes = random_boxes(8, seed), random_boxes(8, seed + 5000)
    found = decode_boxes(anchors, encode_boxes(anchors, boxes, WEIGHTS), WEIGHTS)
    torch.testing.assert_close(found[:, :4], boxes[:, :4], rtol=1e-4, atol=1e-3)
    turn = (found[:, 4] - boxes[:, 4] + 180) % 360 - 180
    assert turn.abs().max() < 1e-3
    assert ((found[:, 4] >= -180) & (found[:, 4] < 180)).all()


def test_decoded_sides_are_bounded() -> None:
    anchor, deltas = torch.tensor([[0.0, 0, 16, 16, 0]]), torch.tensor([[0.0, 0, 1e9, 1e9, 0]])
    decoded = decode_boxes(anchor, deltas, (1, 1, 1, 1, 1))
    assert math.isclose(decoded[0, 2].item(), 16 * math.exp(MAX_LOG_SCALE), rel_tol=1e-5)


def test_only_upright_boxes_are_clipped() -> None:
    boxes = torch.tensor([[[5.0, 10, 30, 10, 0.5], [5, 10, 30, 10, 30], [5, 10, 30, 10, 360.5], [90, 10, 8, 8, 0]]])
    clipped = clip_boxes(boxes, torch.tensor([[12, 40]]))
    expected = [[10.0, 8.5, 20, 7, 0.5], [5, 10, 30, 10, 30], [10, 8.5, 20, 7, 0.5], [40, 9, 0, 6, 0]]
    torch.testing.assert_close(clipped, torch.tensor([expected]))


def test_equal_scales_keep_the_shape() -> None:
    box = torch.tensor([[10.0, 20, 30, 40, 25]])
    torch.testing.assert_close(scale_boxes(box, 2, 2), torch.tensor([[20.0, 40, 60, 80, 25]]))


def test_unequal_scales_stretch_the_sides_where_they_point() -> None:
    upright = scale_boxes(torch.tensor([[10.0, 20, 30, 40, 0]]), 2, 3)
    torch.testing.assert_close(upright, torch.tensor([[20.0, 60, 60, 120, 0]]))
    quarter = scale_boxes(torch.tensor([[10.0, 20, 30, 40, 90]]), 2, 3)
    torch.testing.assert_close(quarter, torch.tensor([[20.0, 60, 90, 80, 90]]))
    half = scale_boxes(torch.tensor([[0.0, 0, 1, 1, 45]]), 1, 3)
    torch.testing.assert_close(half[0, 2:4], torch.tensor([5**0.5, 5**0.5]))
    torch.testing.assert_close(half[0, 4].item(), math.degrees(math.atan(1 / 3)))


def test_mirrored_boxes_turn_the_other_way() -> None:
    box = torch.tensor([[10.0, 20, 30, 40, 25]])
    torch.testing.assert_close(mirror_boxes(box, 100), torch.tensor([[90.0, 20, 30, 40, -25]]))


def test_resizing_tells_which_boxes_are_left() -> None:
    boxes = torch.tensor([[10.0, 20, 30, 40, 25], [90, 10, 8, 8, 0], [0, 0, 0, 5, 60]])
    resized, has_area = resized_boxes(boxes, (12, 40), (24, 80))
    assert has_area.tolist() == [True, False, False]
    torch.testing.assert_close(resized[0], torch.tensor([20.0, 40, 60, 80, 25]))
    torch.testing.assert_close(box_area(resized)[0].item(), 4800.0)
