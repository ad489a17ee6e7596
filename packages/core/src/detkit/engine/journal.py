"""Where a run's metrics go: metrics.jsonl, the trackers of the config, and the screen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detkit.atomic import write_whole
from detkit.engine.progress import Progress
from detkit.interfaces import Tracker


class Journal:
    """Writes metrics. Only the first process has one that writes.

    Args:
        folder: the run directory.
        config: the resolved config, for trackers.
        trackers: started here.
        progress: what a person sees.
        step: steps done, of which this is a resumption.
        evaluated_step: the last one that was evaluated. Lines in metrics.jsonl of later steps and evaluations, which a
            process has written after its last checkpoint and before it was killed, are dropped: they will come again.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        trackers: Sequence[Tracker],
        progress: Progress,
        *,
        step: int,
        evaluated_step: int,
    ) -> None:
        self.progress = progress
        self._trackers = trackers
        path = folder / "metrics.jsonl"
        if path.exists():
            _keep_until(path, step, evaluated_step)
        self._file = path.open("a", encoding="utf-8")
        for tracker in trackers:
            tracker.start(folder, config, step)

    def training(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of training, up to this step."""
        self._write(step, metrics)
        self.progress.training(step, metrics)

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of an evaluation: "section/metric" -> value."""
        self._write(step, metrics)

    def _write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        for tracker in self._trackers:
            tracker.log(step, metrics)

    def close(self) -> None:
        """At the end of a run."""
        self._file.close()
        self.progress.close()
        for tracker in self._trackers:
            tracker.finish()


class Silence(Journal):
    """The journal of the other processes."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def training(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _keep_until(path: Path, step: int, evaluated_step: int) -> None:
    """Drop the lines of later steps and evaluations, and the one that was being written when a process was killed."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if entry["step"] <= (step if "loss" in entry else evaluated_step):
            kept.append(line + "\n")
    write_whole(path, "".join(kept))
