"""The focal loss of dense detectors (Lin et al., Focal Loss for Dense Object Detection, 2017)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

# Logits that are computed at a time: on a CPU what its cache holds; elsewhere a bound on the memory of intermediates.
CHUNK_ON_CPU, CHUNK = 1 << 18, 1 << 25


def focal_loss(logits: Tensor, labels: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """The sum over all rows and classes of -weight * (1 - p)^gamma * log(p), where p is the probability that sigmoid
    gives to the right answer "this class" or "not this class".

    Most of a training step's scalars are here, so the loss and its gradient come out of one pass over the logits, and
    nothing of their size is kept but the gradient.

    Args:
        logits: (..., K), of any floating type; computed in float32.
        labels: (...) int64, the right class of each row; K where none is right, below 0 where the row does not count.
        alpha: weight of "this class"; that of "not this class" is 1 - alpha. Below 0, both are 1.
        gamma: how fast the weight of what is right already falls.
    """
    loss: Tensor = _FocalLoss.apply(
        logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), alpha, gamma, logits.requires_grad
    )
    return loss


class _FocalLoss(Function):
    """Every entry as "not this class" first; then those few that are "this class" are put right."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, alpha: float, gamma: float, needs_gradient: bool) -> Tensor:
        rows, classes = logits.shape
        on, off = (alpha, 1 - alpha) if alpha >= 0 else (1.0, 1.0)
        total = logits.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(logits) if needs_gradient else None
        step = max(1, (CHUNK_ON_CPU if logits.device.type == "cpu" else CHUNK) // classes)
        for start in range(0, rows, step):
            part = slice(start, start + step)
            label = labels[part, None]
            counts, positive = label >= 0, (label >= 0) & (label < classes)
            index = label.clamp(0, classes - 1)
            x = logits[part].float()
            right = x.gather(1, index)  # the logit of the right class; of any where none is right
            loss, slope = _wrong(x, gamma, needs_gradient)
            loss_right, slope_right = _wrong(-right, gamma, needs_gradient)
            total += off * torch.where(counts, loss.sum(dim=1, keepdim=True), 0.0).sum()
            total += torch.where(positive, on * loss_right - off * loss.gather(1, index), 0.0).sum()
            if gradient is not None and slope is not None and slope_right is not None:
                slope.mul_(off).scatter_(1, index, torch.where(positive, -on * slope_right, slope.gather(1, index)))
                gradient[part] = slope.mul_(counts)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * scale.to(gradient.dtype), None, None, None, None


def _wrong(x: Tensor, gamma: float, needs_slope: bool) -> tuple[Tensor, Tensor | None]:
    """p^gamma * -log(1 - p) with p = sigmoid(x), the loss of a "yes" that is wrong, and its derivative by x."""
    p, entropy = x.sigmoid(), F.softplus(x)
    weight = p.square() if gamma == 2 else p.pow(gamma)
    if not needs_slope:
        return weight.mul_(entropy), None
    slope = torch.addcmul(entropy, p, entropy, value=-1).mul_(gamma).add_(p).mul_(weight)
    return weight.mul_(entropy), slope
