"""The weights that are evaluated and saved: the trained ones, or their exponential moving average."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from detkit.detector import Detector


class TrainedWeights:
    """Evaluates and saves the model that is trained."""

    def __init__(self, model: Detector) -> None:
        self.model = model

    def update(self, step: int) -> None:
        """After optimizer step number `step`, counted from 1."""

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint needs besides the trained weights: nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""


class MovingAverage(TrainedWeights):
    """Evaluates and saves an exponential moving average of the weights (Polyak and Juditsky, 1992).

    Early in a run the decay is (1 + step) / (10 + step), so that short runs are not dominated by the initial weights.

    Args:
        model: what is trained.
        decay: below 1, such as 0.9998.
    """

    def __init__(self, model: Detector, decay: float) -> None:
        super().__init__(copy.deepcopy(model).eval().requires_grad_(False))
        self.decay = decay
        own, trained = self.model.state_dict(), model.state_dict()
        averaged = [name for name, value in own.items() if value.is_floating_point()]
        self._averages = [own[name] for name in averaged]
        self._trained = [trained[name] for name in averaged]
        self._copies = [(own[name], trained[name]) for name in own if name not in set(averaged)]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimizer step number `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._trained, 1 - decay)
        for average, trained in self._copies:  # counters
            average.copy_(trained)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the averages, in place."""
        self.model.load_state_dict(state)
