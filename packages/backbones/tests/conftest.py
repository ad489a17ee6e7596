from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from detkit.interfaces import Backbone

Randomise = Callable[[nn.Module], nn.Module]
Begin = Callable[[Backbone, Mapping[str, Tensor]], Backbone]


@pytest.fixture
def randomised() -> Randomise:
    """Moves all parameters of a network, also the norms, biases and gains in which swapped arrays would not show while
    they are new, and puts it into evaluation mode."""

    def randomise(model: nn.Module) -> nn.Module:
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.data.add_(torch.randn(parameter.shape) * 0.1)
        return model.eval()

    return randomise


@pytest.fixture
def begun() -> Begin:
    """A backbone that begins from published weights, in evaluation mode."""

    def begin(model: Backbone, weights: Mapping[str, Tensor]) -> Backbone:
        model.load_state_dict(model.fit_weights(weights))
        return model.eval()

    return begin
