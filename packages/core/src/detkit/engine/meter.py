"""What happened since the last line of metrics, kept on the device until it is asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from detkit.engine.processes import Processes


class Meter:
    """Averages losses and times over the steps from one log point to the next."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._start_again()

    def _start_again(self) -> None:
        self._losses: list[Tensor] = []
        self._names: tuple[str, ...] = ()
        self._norms: list[Tensor] = []
        self._images = 0
        self._steps = 0
        self._waited = 0.0
        self._since = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time that is spent here is spent waiting for data."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._waited += time.perf_counter() - start

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time that is spent here (evaluating, saving) does not count."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - start

    def part(self, losses: Mapping[str, Tensor], images: int) -> None:
        """Add the losses of a part of a batch, detached scalars, and the number of images in all processes."""
        self._names = tuple(losses)
        self._losses.append(torch.stack([value.float() for value in losses.values()]))
        self._images += images

    def step(self, gradient_norm: Tensor) -> None:
        """Add a step."""
        self._norms.append(gradient_norm)
        self._steps += 1

    def take(self) -> dict[str, float]:
        """The averages since the last time, the same in all processes: every loss, their sum `loss`, `gradient_norm`,
        `images_per_second`, `step_seconds`, `data_seconds` (waiting for images, for each step) and `memory_gb` (the
        highest so far: of the GPU, or of this process). The only place where the host waits for the device."""
        if not self._steps:
            return {}
        losses = self._processes.mean(torch.stack(self._losses).mean(0))
        *values, norm = torch.cat([losses, torch.stack(self._norms).mean()[None]]).tolist()
        seconds = time.perf_counter() - self._since
        result = {
            "loss": sum(values),
            **dict(zip(self._names, values, strict=True)),
            "gradient_norm": norm,
            "images_per_second": self._images / seconds,
            "step_seconds": seconds / self._steps,
            "data_seconds": self._waited / self._steps,
            "memory_gb": peak_memory(self._processes.device) / 2**30,
        }
        self._start_again()
        return result


def peak_memory(device: torch.device) -> int:
    """The most bytes held so far: by tensors on a GPU, by this process on a CPU (0 on Windows, which does not say)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
