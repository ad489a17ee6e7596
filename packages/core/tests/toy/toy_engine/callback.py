from __future__ import annotations

import os
import resource
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detkit.engine.run import Run
from detkit.interfaces import Callback


class ToyCallback(Callback):
    """Notes what it is told of, in `events`, over resumed runs too; can make trouble, once in a run.

    Args:
        signal_at: step after which it sends this process a signal; it must be logged.
        signal_name: such as SIGKILL.
        full_at: step from which on this process cannot write more than 4 kB into a file, as if the disk were full.
    """

    def __init__(
        self, *, signal_at: int | None = None, signal_name: str = "SIGTERM", full_at: int | None = None
    ) -> None:
        self.signal_at = signal_at
        self.signal_name = signal_name
        self.full_at = full_at
        self.events: list[str] = []

    def on_start(self, run: Run) -> None:
        self.events.append("start")

    def on_step(self, run: Run, metrics: Mapping[str, float]) -> None:
        self.events.append(f"step {run.step}")
        if run.step in (self.signal_at, self.full_at) and not (run.folder / "trouble").exists():
            (run.folder / "trouble").touch()
            if run.step == self.full_at:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
            else:
                os.kill(os.getpid(), signal.Signals[self.signal_name])

    def on_evaluate(self, run: Run, metrics: Mapping[str, Any]) -> None:
        self.events.append(f"evaluate {run.step}")

    def on_save(self, run: Run, path: Path) -> None:
        self.events.append(f"save {run.step}")

    def on_finish(self, run: Run, error: BaseException | None) -> None:
        self.events.append("finish" if error is None else f"finish {type(error).__name__}")

    def state_dict(self) -> dict[str, Any]:
        return {"events": list(self.events)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.events = list(state["events"])
