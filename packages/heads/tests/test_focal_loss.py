import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from det_heads import focal_loss as module
from det_heads.focal_loss import focal_loss


def reference(logits: torch.Tensor, labels: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
    classes = logits.shape[-1]
    target = F.one_hot(labels.clamp(min=0), classes + 1)[..., :-1].to(logits)
    return (sigmoid_focal_loss(logits, target, alpha=alpha, gamma=gamma) * (labels >= 0)[..., None]).sum()


@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 9),
    classes=st.integers(1, 5),
    alpha=st.sampled_from([-1.0, 0.0, 0.25, 1.0]),
    gamma=st.sampled_from([0.0, 0.5, 2.0, 3.0]),
    chunk=st.sampled_from([1, 7, 1 << 18]),
    seed=st.integers(0, 1 << 16),
)
def test_loss_and_gradient_are_torchvisions(
    rows: int, classes: int, alpha: float, gamma: float, chunk: int, seed: int
) -> None:
    source = torch.Generator().manual_seed(seed)
    logits = (torch.randn(2, rows, classes, generator=source) * 4).requires_grad_()
    labels = torch.randint(-1, classes + 1, (2, rows), generator=source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_ON_CPU", chunk)
        found = focal_loss(logits, labels, alpha=alpha, gamma=gamma)
    wanted = reference(logits, labels, alpha, gamma)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(2 * loss, logits)[0] for loss in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("logit", [-1e4, -80.0, 80.0, 1e4])
def test_logits_of_any_size_give_finite_losses_and_gradients(logit: float) -> None:
    logits = torch.full((3, 4), logit, requires_grad=True)
    loss = focal_loss(logits, torch.tensor([-1, 0, 4]), alpha=0.25, gamma=2.0)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert (logits.grad[0] == 0).all()


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    labels = torch.arange(64) % 9
    loss = focal_loss(logits, labels, alpha=0.25, gamma=2.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, reference(logits.float(), labels, 0.25, 2.0))


def test_nothing_is_kept_without_gradients() -> None:
    with torch.no_grad():
        assert not focal_loss(torch.zeros(2, 3), torch.tensor([0, 3]), alpha=0.25, gamma=2.0).requires_grad
