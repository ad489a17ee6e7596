"""Limiting gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Clipping:
    """Measures the norm of all gradients together, and limits it and their elements where asked to.

    Args:
        parameters: those that are trained.
        norm: highest global 2-norm; None for no limit.
        value: highest absolute value of an element; None for no limit. Applied before the norm.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, norm: float | None, value: float | None) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._norm = norm
        self._value = value

    def __call__(self) -> Tensor:
        """The global 2-norm before it is limited, a scalar on the device."""
        if self._value is not None:
            nn.utils.clip_grad_value_(self._parameters, self._value)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self._norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._norm, norm)
        return norm.detach() if isinstance(norm, Tensor) else torch.tensor(norm)
