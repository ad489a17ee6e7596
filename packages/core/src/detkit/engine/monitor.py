"""Which evaluation was the best, and when to stop waiting for a better one."""

from __future__ import annotations

from collections.abc import Mapping

from detkit.engine.run import Run

SCORES = ("/AP", "/mIoU")
"""Endings of the metrics that sum up a section."""


class Monitor:
    """Follows one metric of a run.

    Args:
        name: such as "segm/AP"; names with "loss" are better when lower. None takes the first section's AP
            or mIoU, or the validation loss where there is none.
        patience: evaluations without a better value after which training stops; None never does.
    """

    def __init__(self, name: str | None, patience: int | None) -> None:
        self._name = name
        self._patience = patience

    def name(self, metrics: Mapping[str, float]) -> str:
        """The metric that is followed.

        Raises:
            ValueError: it is not among the metrics.
        """
        if self._name is None:
            return next((name for name in metrics if name.endswith(SCORES)), "validation/loss")
        if self._name not in metrics:
            raise ValueError(f"train.monitor is {self._name!r}; this run's metrics are {', '.join(metrics)}")
        return self._name

    def see(self, run: Run, metrics: Mapping[str, float]) -> bool:
        """Note an evaluation in the run; whether it is the best so far. An undefined metric never is."""
        name = self.name(metrics)
        value = metrics.get(name)
        sign = -1 if "loss" in name else 1
        better = value is not None and (run.best is None or sign * value > sign * run.best)
        if better:
            run.best, run.best_step, run.misses = value, run.step, 0
        else:
            run.misses += 1
        return better

    def gives_up(self, run: Run) -> bool:
        """Whether there has been no better value for too long."""
        return self._patience is not None and run.misses >= self._patience
