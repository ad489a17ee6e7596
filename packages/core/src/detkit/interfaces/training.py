"""What surrounds a model in training, and how others' models come in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

if TYPE_CHECKING:
    from detkit.engine.run import Run


class Optimizer(ABC):
    """How weights are updated; built for a model, with its parameters in groups."""

    kind: ClassVar[str] = "optimizer"

    lr: float

    @abstractmethod
    def build(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
        """An optimizer for the parameters of `model` that need gradients. `lr` is `self.lr` scaled to the batch
        size."""


class Schedule(ABC):
    """How the learning rate changes: a function of the step alone, so that a resumed run has nothing to restore."""

    kind: ClassVar[str] = "schedule"

    @abstractmethod
    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by in step 0 <= step < steps of a run of `steps` steps."""


class Callback:
    """Observes training. Every method does nothing by default; the loop calls them in the order of the config."""

    kind: ClassVar[str] = "callback"

    def on_start(self, run: Run) -> None:
        """Before the first step."""

    def on_step(self, run: Run, metrics: Mapping[str, float]) -> None:
        """After an optimizer step that was logged."""

    def on_evaluate(self, run: Run, metrics: Mapping[str, Any]) -> None:
        """After an evaluation."""

    def on_save(self, run: Run, path: Path) -> None:
        """After a checkpoint has been written."""

    def on_finish(self, run: Run, error: BaseException | None) -> None:
        """At the end, whatever ended it."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: tensors, numbers, strings, lists and dicts of them. Saved in every checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; called before `on_start`."""


class Tracker(ABC):
    """Receives curves: TensorBoard, MLflow, ..."""

    kind: ClassVar[str] = "tracker"

    @abstractmethod
    def start(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        """Open; `folder` is the run directory. A resumed run starts at a `step` above 0, and what was logged after it
        will be logged again."""

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def image(self, step: int, name: str, picture: Any) -> None:  # noqa: B027 - not every tracker shows pictures
        """A PIL image."""

    @abstractmethod
    def finish(self) -> None: ...


class CheckpointFormat(ABC):
    """Turns somebody else's models into detkit model directories (`detkit convert NAME ...`)."""

    kind: ClassVar[str] = "checkpoint_format"

    @abstractmethod
    def convert(self, model: str, weights: Path | None, out: Path, *, sha256: str | None = None) -> Path:
        """Write a model directory.

        Args:
            model: a config file, or the name under which the model is published.
            weights: a checkpoint; None for a published one, which is downloaded.
            out: the directory to write.
            sha256: the checksum that a downloaded checkpoint must have, or its first digits.

        Raises:
            ValueError: lists whatever has no counterpart, or says what is missing.
        """
