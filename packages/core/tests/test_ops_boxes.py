import math

import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit.ops.boxes import MAX_LOG_SCALE, box_iou, clip_boxes, decode_boxes, encode_boxes

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_boxes(count: int, seed: int = 0, side: float = 100) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * side
    return torch.cat([low, low + 1 + torch.rand(count, 2, generator=generator) * side], dim=1)


def test_iou_equals_torchvision() -> None:
    a, b = random_boxes(40, 1), random_boxes(30, 2)
    torch.testing.assert_close(box_iou(a, b), torchvision.ops.box_iou(a, b))


def test_iou_of_empty_boxes_is_zero() -> None:
    empty = torch.tensor([[5.0, 5, 5, 5]])
    assert box_iou(empty, empty).item() == 0


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_decoding_inverts_encoding(seed: int) -> None:
    anchors, boxes = random_boxes(8, seed), random_boxes(8, seed + 5000)
    deltas = encode_boxes(anchors, boxes, WEIGHTS)
    small = (deltas[:, 2:] / 5 < MAX_LOG_SCALE).all(dim=1)
    torch.testing.assert_close(decode_boxes(anchors, deltas, WEIGHTS)[small], boxes[small], rtol=1e-4, atol=1e-3)


def test_decoded_sides_are_bounded() -> None:
    anchor, deltas = torch.tensor([[0.0, 0, 16, 16]]), torch.tensor([[0.0, 0, 1e9, 1e9]])
    decoded = decode_boxes(anchor, deltas, (1, 1, 1, 1))
    assert math.isclose((decoded[0, 2] - decoded[0, 0]).item(), 1000, rel_tol=1e-5)


def test_clipping_uses_each_images_own_size() -> None:
    boxes = torch.tensor([[[-5.0, -5, 500, 500]], [[-5.0, -5, 500, 500]]])
    clipped = clip_boxes(boxes, torch.tensor([[30, 40], [50, 60]]))
    assert clipped.tolist() == [[[0, 0, 40, 30]], [[0, 0, 60, 50]]]
