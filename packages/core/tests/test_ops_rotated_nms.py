import sys

import pytest
import torch
from torch import Tensor

from detkit.ops.nms import batched_nms
from detkit.ops.rotated_iou import rotated_iou
from detkit.ops.rotated_nms import batched_rotated_nms

OPERATOR = sys.modules["detkit.ops.rotated_nms"]._rotated_nms


def candidates(batch: int, count: int, groups: int, *, side: float = 100.0, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    r = torch.rand(batch, count, 5, generator=generator)
    boxes = r * torch.tensor([side, side, 40, 40, 360]) + torch.tensor([0.0, 0, 10, 10, -180])
    scores = torch.randint(50, (batch, count), generator=generator) / 50  # with ties
    group = torch.randint(groups, (batch, count), generator=generator)
    return boxes, scores, group, torch.rand(batch, count, generator=generator) < 0.9


def reference(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, threshold: float) -> Tensor:
    keep = torch.zeros_like(valid)
    for image in range(len(boxes)):
        iou, alive = rotated_iou(boxes[image], boxes[image]), valid[image].clone()
        for best in scores[image].argsort(descending=True, stable=True).tolist():
            if alive[best]:
                keep[image, best] = True
                alive &= ~((iou[best] > threshold) & (groups[image] == groups[image, best]))
    return keep


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("side", [100.0, 1000.0])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7])
def test_keeps_what_the_plain_algorithm_keeps(groups: int, side: float, threshold: float) -> None:
    given = candidates(2, 400, groups, side=side)
    assert torch.equal(batched_rotated_nms(*given, threshold), reference(*given, threshold))


def test_the_kernel_for_accelerators_keeps_the_same() -> None:
    given = candidates(2, 300, 3)
    on_accelerator = OPERATOR._init_fn(*given, 0.3)  # runs on any device; a CPU has its own kernel
    assert torch.equal(on_accelerator, batched_rotated_nms(*given, 0.3))


def test_boxes_of_five_numbers_are_rotated() -> None:
    boxes, scores, groups, valid = candidates(2, 50, 3)
    assert torch.equal(
        batched_nms(boxes, scores, groups[0], valid, 0.4),
        batched_rotated_nms(boxes, scores, groups[0].expand(2, -1), valid, 0.4),
    )


def test_nothing_valid_keeps_nothing() -> None:
    boxes, scores, group, _ = candidates(2, 10, 2)
    assert not batched_rotated_nms(boxes, scores, group, torch.zeros(2, 10, dtype=torch.bool), 0.5).any()
    assert batched_rotated_nms(boxes[:, :0], scores[:, :0], group[:, :0], group[:, :0] > 0, 0.5).shape == (2, 0)


def test_operator_registration() -> None:
    torch.library.opcheck(OPERATOR, (*candidates(2, 20, 2), 0.5))
