"""Interleaved timings, stages of a call, peak memory."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Stages = Mapping[str, list[tuple[Any, str]]]
"""Stage -> the (object, method) pairs whose time it is."""


def interleaved(
    sides: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds, by `clock`, of each call of each side: one call of each per round, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(rounds + 1):
        for name, call in sides.items():
            start = clock()
            call()
            if round_number:
                seconds[name].append(clock() - start)
    return seconds


@contextmanager
def timed(stages: Stages) -> Iterator[dict[str, float]]:
    """Within it, the methods of `stages` add up their seconds."""
    spent: dict[str, float] = defaultdict(float)
    replaced: list[tuple[Any, str, bool, Any]] = []
    for stage, methods in stages.items():
        for owner, name in methods:
            replaced.append((owner, name, name in vars(owner), getattr(owner, name)))
            setattr(owner, name, _timer(getattr(owner, name), stage, spent))
    try:
        yield spent
    finally:
        for owner, name, own, method in replaced:
            if own:
                setattr(owner, name, method)
            else:
                delattr(owner, name)


def _timer(method: Callable[..., Any], stage: str, spent: dict[str, float]) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*arguments, **keywords)
        finally:
            spent[stage] += time.perf_counter() - start

    return call


def peak_memory(prepare: Callable[[], Callable[[], Any]]) -> float:
    """MB that a call needs at its peak on top of what is there before it, in a process of its own (Linux only)."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_memory, args=(prepare, sender))
    process.start()
    megabytes: float = receiver.recv()
    process.join()
    return megabytes


def _measure_memory(prepare: Callable[[], Callable[[], Any]], sender: Any) -> None:
    call = prepare()
    call()  # what libraries keep from the first call on is not the call's
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident now
    call()
    sender.send((status("VmHWM") - before) / 1024)


def status(field: str) -> int:
    """A line of Linux's process status, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def ratio(seconds: Mapping[str, list[float]], ours: str, theirs: str) -> float:
    """How many times as fast we are: the median over rounds of their time over ours."""
    return statistics.median(their / our for our, their in zip(seconds[ours], seconds[theirs], strict=True))
