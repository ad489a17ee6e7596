"""Checkpoints: everything that a run needs to continue bit for bit.

checkpoints/step-00001000/ holds model.safetensors, average.safetensors (with train.ema) and trainer.pt, which is read
with `weights_only`: optimizer, random generators of every process, callbacks, and where the run stands.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import torch

from detkit.atomic import recover, whole_folder
from detkit.engine.moving_average import TrainedWeights
from detkit.engine.processes import random_state, restore_random_state
from detkit.engine.run import Run
from detkit.interfaces import Callback
from detkit.weights import differences, read_weights, write_weights


class Checkpoints:
    """The checkpoints of a run.

    Args:
        run: its folder's `checkpoints`.
        optimizer: saved and restored.
        weights: the moving average, saved and restored.
        callbacks: saved and restored.
        keep: the newest ones to keep.
    """

    def __init__(
        self,
        run: Run,
        optimizer: torch.optim.Optimizer,
        weights: TrainedWeights,
        callbacks: list[Callback],
        keep: int,
    ) -> None:
        self._run = run
        self._optimizer = optimizer
        self._weights = weights
        self._callbacks = callbacks
        self._keep = keep

    def save(self) -> Path:
        """Write a checkpoint; all processes call it together. Older ones are removed after it is complete.

        Raises:
            OSError: it cannot be written, for lack of space; the older ones are untouched.
        """
        run = self._run
        folder = run.folder / "checkpoints" / f"step-{run.step:08d}"
        states = run.processes.gather(random_state())
        if run.processes.first:
            trainer = {
                "run": run.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "callbacks": [callback.state_dict() for callback in self._callbacks],
                "random": states,
            }
            try:
                with whole_folder(folder) as new:
                    write_weights(run.model.state_dict(), new / "model.safetensors")
                    if average := self._weights.state_dict():
                        write_weights(average, new / "average.safetensors")
                    # torch reports a full disk as a broken archive when it writes into a file itself
                    buffer = io.BytesIO()
                    torch.save(trainer, buffer)
                    (new / "trainer.pt").write_bytes(buffer.getbuffer())
            except OSError as error:
                raise OSError(_not_saved(folder, error)) from error
            for old in found(run.folder)[: -self._keep]:
                shutil.rmtree(old)
        return folder

    def restore(self, folder: Path) -> int:
        """Load a checkpoint into the run, the optimizer, the average, the callbacks and the random generators; how many
        processes it is of.

        Raises:
            ValueError: it is of another model, or damaged; says how.
        """
        state = read_weights(folder / "model.safetensors")
        if problems := differences(self._run.model, state):
            raise ValueError(f"the checkpoint {folder} is of another model; arrays {'; '.join(problems)}")
        trainer = _read_trainer(folder / "trainer.pt")
        self._run.model.load_state_dict(state)
        if self._weights.state_dict():
            self._weights.load_state_dict(read_weights(folder / "average.safetensors"))
        self._optimizer.load_state_dict(trainer["optimizer"])
        self._run.load_state_dict(trainer["run"])
        for callback, callback_state in zip(self._callbacks, trainer["callbacks"], strict=True):
            callback.load_state_dict(callback_state)
        states = trainer["random"]
        if self._run.processes.rank < len(states):
            restore_random_state(states[self._run.processes.rank])
        return len(states)


def found(folder: Path) -> list[Path]:
    """The complete checkpoints in a run's directory, oldest first."""
    parent = folder / "checkpoints"
    if not parent.is_dir():
        return []
    for hidden in parent.glob(".step-*.previous"):
        recover(parent / hidden.name.removeprefix(".").removesuffix(".previous"))
    return sorted(path for path in parent.glob("step-*") if path.is_dir())


def _read_trainer(path: Path) -> dict[str, Any]:
    try:
        trainer: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, with advice to load the file without precautions
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}); remove {path.parent} to resume from the one before, or "
            "start a new run from its weights"
        ) from error
    return trainer


def _not_saved(folder: Path, error: OSError) -> str:
    others = [path.name for path in found(folder.parent.parent) if path != folder]
    left = f"{others[-1]} is intact" if others else "there is no earlier one"
    return f"cannot save the checkpoint {folder}: {error}; {left}. Make room, then continue with --resume"
