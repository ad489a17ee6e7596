"""Finding the step, and the images, that made a loss or a gradient infinite or not a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from detkit.engine.processes import Processes


class FiniteCheck:
    """Looks at the loss and the gradient norm of every step.

    On a CPU it looks before the optimizer's step. A GPU is not waited for: its steps are looked at together, when
    metrics are logged and before anything is saved, so what is on disk is always sound.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._at_once = processes.device.type == "cpu"
        self._values: list[Tensor] = []
        self._steps: list[tuple[int, Sequence[Mapping[str, Tensor]], Sequence[Mapping[str, Any]]]] = []

    def watch(
        self,
        step: int,
        losses: Sequence[Mapping[str, Tensor]],
        gradient_norm: Tensor,
        images: Sequence[Mapping[str, Any]],
    ) -> None:
        """Note a step.

        Args:
            step: its number, counted from 1.
            losses: of each part of the batch, detached scalars.
            gradient_norm: scalar.
            images: `Batch.info` of all images of this process's share of the batch.

        Raises:
            FloatingPointError: on a CPU, as in `verify`.
        """
        total = torch.stack([value.float() for part in losses for value in part.values()]).sum()
        self._values.append(total + gradient_norm)
        self._steps.append((step, losses, images))
        if self._at_once:
            self.verify()

    def verify(self) -> None:
        """Look at all steps since the last time.

        Raises:
            FloatingPointError: one is not finite; names its losses and its images.
        """
        if not self._values:
            return
        finite = torch.stack(self._values).isfinite().tolist()
        steps = self._steps
        self._values, self._steps = [], []
        if all(finite):
            return
        step, losses, images = steps[finite.index(False)]
        raise FloatingPointError(_report(step, losses, images, self._processes.rank))


def _report(step: int, losses: Sequence[Mapping[str, Tensor]], images: Sequence[Mapping[str, Any]], rank: int) -> str:
    values = ["  " + ", ".join(f"{name} {float(value):.4g}" for name, value in part.items()) for part in losses]
    finite = all(bool(value.isfinite()) for part in losses for value in part.values())
    what = "the losses of this process are finite, but a gradient is not" if finite else "a loss is not finite"
    names = [f"  image_id {info.get('image_id', '?')}  {info.get('path', '')}".rstrip() for info in images]
    return "\n".join(
        [
            f"training stopped at step {step}: {what}. Losses (process {rank}):",
            *values,
            "Images of this batch:",
            *names,
            "The last checkpoint is from before this step. If these images and their annotations are in order (detkit "
            "data check), lower the learning rate, lengthen the warm-up or set train.clip_norm.",
        ]
    )
