"""Losses that several heads use."""

from __future__ import annotations

import torch
from torch import Tensor


def smooth_l1(prediction: Tensor, target: Tensor, beta: float) -> Tensor:
    """Elementwise |d| - beta / 2, and d^2 / (2 beta) where |d| < beta (Girshick, Fast R-CNN, 2015); L1 for beta 0."""
    difference = (prediction - target).abs()
    if beta < 1e-5:
        return difference
    return torch.where(difference < beta, 0.5 * difference * difference / beta, difference - 0.5 * beta)
