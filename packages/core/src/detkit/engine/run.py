"""A training run: what callbacks, plugins and callers see of it, and its directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.atomic import write_whole
from detkit.engine.processes import Processes

if TYPE_CHECKING:
    from detkit.config import Config
    from detkit.detector import Detector


@dataclass
class Run:
    """One training run.

    folder: the run directory:
        config.yaml      the resolved config
        environment.json versions of everything that took part
        metrics.jsonl    one line for each log point and each evaluation
        metrics.json     the newest evaluation: section -> metric -> value
        checkpoints/     what a run is resumed from
        best/, last/     model directories, for `detkit.load`; detkit.load(folder) takes the best
    model: the model that is trained.
    evaluated: the model that is evaluated and saved: `model`, or the moving average of its weights.
    step, steps: optimizer steps done, and in all.
    steps_per_epoch: steps in which the run sees as many images as the training set has; a fraction in general.
    metrics: the newest evaluation, in the first process: section -> metric -> value, with "validation" for losses.
    best, best_step: the best value of the monitored metric so far, and when it was reached.
    misses: evaluations in a row since then.
    evaluated_step: when the newest evaluation was; -1 before the first.
    finished: there is nothing left to do, unless the run is extended.
    """

    folder: Path
    config: Config
    processes: Processes
    model: Detector
    evaluated: Detector
    steps: int
    steps_per_epoch: float
    step: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    best: float | None = None
    best_step: int = 0
    misses: int = 0
    evaluated_step: int = -1
    finished: bool = False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs of it."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name in _STATE:
            setattr(self, name, state[name])


_STATE = ("step", "best", "best_step", "misses", "evaluated_step", "finished")


def next_folder(name: str, parent: Path = Path("runs")) -> Path:
    """The first of runs/NAME-1, runs/NAME-2, ... that does not exist."""
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def flatten(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Section -> metric -> value as "section/metric" -> value; what is undefined, or not a number, is left out."""
    return {
        f"{section}/{name}": float(value)
        for section, values in metrics.items()
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
