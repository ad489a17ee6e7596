from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import ops

from det_heads.losses import BoxLoss, box_loss, iou_loss, smooth_l1
from detkit.ops.boxes import encode_boxes

REFERENCES = {
    "giou": ops.generalized_box_iou_loss,
    "diou": ops.distance_box_iou_loss,
    "ciou": ops.complete_box_iou_loss,
}
WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def boxes(seed: int, count: int = 20) -> torch.Tensor:
    low, size = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(seed)) * 50
    return torch.cat((low, low + size + 1), dim=1)


@pytest.mark.parametrize("kind", REFERENCES)
@given(seed=st.integers(0, 1000))
def test_overlap_losses_and_gradients_are_torchvisions(kind: Any, seed: int) -> None:
    found, target = boxes(seed).requires_grad_(), boxes(seed + 1)
    mine, reference = iou_loss(found, target, kind), REFERENCES[kind](found, target)
    torch.testing.assert_close(mine, reference)
    gradients = [torch.autograd.grad(each.sum(), found)[0] for each in (mine, reference)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("kind", get_args(BoxLoss))
def test_the_right_deltas_have_no_loss(kind: Any) -> None:
    source, target = boxes(1), boxes(2)
    deltas = encode_boxes(source, target, WEIGHTS)
    everywhere = torch.ones(len(source), dtype=torch.bool)
    loss = box_loss(deltas, source, target, everywhere, kind=kind, weights=WEIGHTS, beta=0.0)
    torch.testing.assert_close(loss, torch.zeros(len(source)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", get_args(BoxLoss))
def test_padding_has_neither_loss_nor_gradient(kind: Any) -> None:
    source, target = torch.zeros(3, 4), torch.zeros(3, 4)
    source[0], target[0] = torch.tensor([2.0, 2, 9, 8]), torch.tensor([3.0, 1, 9, 9])
    deltas = torch.full((3, 4), 0.1, requires_grad=True)
    foreground = torch.tensor([True, False, False])
    loss = box_loss(deltas, source, target, foreground, kind=kind, weights=WEIGHTS, beta=0.1)
    loss.sum().backward()
    assert loss[0] > 0
    assert loss[1:].tolist() == [0, 0]
    assert deltas.grad is not None
    assert deltas.grad[0].abs().max() > 0
    assert (deltas.grad[1:] == 0).all()


@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
def test_smooth_l1_is_torchs(beta: float) -> None:
    a, b = torch.randn(2, 30, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.smooth_l1_loss(a, b, beta=beta, reduction="none")
    torch.testing.assert_close(smooth_l1(a, b, beta), expected)


@given(
    kind=st.sampled_from(get_args(BoxLoss)),
    deltas=st.lists(st.floats(-100, 100), min_size=4, max_size=4),
    size=st.tuples(st.floats(0.01, 2000), st.floats(0.01, 2000)),
    shift=st.floats(-3000, 3000),
)
def test_losses_and_gradients_are_finite(
    kind: BoxLoss, deltas: list[float], size: tuple[float, float], shift: float
) -> None:
    """For deltas of a model that has gone astray, and for boxes thin, huge or far outside."""
    source = torch.tensor([shift, shift, shift + 20, shift + 30])[None]
    target = torch.tensor([0.0, 0.0, *size])[None]
    wanted = torch.tensor([deltas], requires_grad=True)
    loss = box_loss(wanted, source, target, torch.tensor([True]), kind=kind, weights=(1, 1, 1, 1), beta=0.0)
    loss.sum().backward()
    assert wanted.grad is not None
    assert loss.isfinite().all()
    assert wanted.grad.isfinite().all()
