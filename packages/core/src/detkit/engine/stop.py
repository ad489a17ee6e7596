"""Leaving in good order: SIGTERM (and the first Ctrl-C) ask a run to save and stop."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Self

from detkit.engine.processes import Processes

EXIT_STOPPED = 75
"""Exit code of a run that was asked to stop and has saved: the EX_TEMPFAIL of sysexits.h, "try again later"."""


class StopRequest:
    """Whether somebody asked this run to stop. As a context it receives the signals; then ask it once a step."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._asked = False
        self._question = processes.any_flag(False) if processes.count > 1 else None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait

    def asked(self) -> bool:
        """Whether to stop after this step. Several processes get the same answer in the same step, one step after the
        signal: the question is passed round while a step is computed."""
        if self._question is None:
            return self._asked
        answer = self._question.answer()
        self._question = self._processes.any_flag(self._asked)
        return answer
