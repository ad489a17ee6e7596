"""What a person sees of a run: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

_HIDDEN = ("loss", "lr", "gradient_norm", "images_per_second", "step_seconds", "data_seconds", "memory_gb", "epoch")


class Progress:
    """Shows how far training has come.

    Args:
        steps: of the whole run.
        steps_per_epoch: may be a fraction.
        quiet: show nothing.
        console: where; standard error by default.
    """

    def __init__(
        self, steps: int, steps_per_epoch: float, *, quiet: bool = False, console: Console | None = None
    ) -> None:
        self._steps = steps
        self._steps_per_epoch = steps_per_epoch
        self._console = console or Console(file=sys.stderr, quiet=quiet, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._step = 0
        self._metrics: Mapping[str, float] = {}
        if self._console.is_terminal and not quiet:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True, get_renderable=self._display)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """A line that stays, about something that may be wrong."""
        self._console.print(f"warning: {text}", style="yellow", markup=False)

    def training(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics of the last steps."""
        self._step, self._metrics = step, metrics
        if self._live is None:
            self.say(self._line(step, metrics))
        else:
            self._live.start(refresh=True)

    def advance(self, step: int) -> None:
        """A step is done; a live display shows it when it is drawn next."""
        self._step = step

    @contextmanager
    def phase(self, what: str) -> Iterator[None]:
        """Something else than training takes place: "evaluating", "saving"."""
        if self._live is not None:
            self._live.stop()
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        if seconds > 1:
            self.say(f"{what} took {duration(seconds)}")

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()

    def _line(self, step: int, metrics: Mapping[str, float]) -> str:
        losses = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name not in _HIDDEN)
        share = metrics["data_seconds"] / metrics["step_seconds"]
        return (
            f"step {step}/{self._steps}  loss {metrics['loss']:.4g} ({losses})  lr {metrics['lr']:.3g}  "
            f"{metrics['images_per_second']:.1f} images/s  data {share:.0%}  {metrics['memory_gb']:.1f} GB  "
            f"{self._left(step, metrics)} left"
        )

    def _left(self, step: int, metrics: Mapping[str, float]) -> str:
        return duration((self._steps - step) * metrics["step_seconds"])

    def _display(self) -> Table:
        step, metrics = self._step, self._metrics
        if not metrics:  # asked before there is anything to show
            return Table.grid()
        table = Table.grid(padding=(0, 2))
        table.add_row(
            f"step {step}/{self._steps}",
            f"epoch {step / self._steps_per_epoch:.1f}",
            ProgressBar(total=self._steps, completed=step, width=30),
            f"{self._left(step, metrics)} left",
        )
        table.add_row(
            f"loss [bold]{metrics['loss']:.4f}[/bold]",
            f"lr {metrics['lr']:.3g}",
            "  ".join(f"{name} {value:.3f}" for name, value in metrics.items() if name not in _HIDDEN),
        )
        table.add_row(
            f"{metrics['images_per_second']:.1f} images/s",
            f"{metrics['memory_gb']:.1f} GB",
            f"waiting for data {metrics['data_seconds'] / metrics['step_seconds']:.0%} of the time",
        )
        return table


def duration(seconds: float) -> str:
    """Seconds in words: "48 s", "12 min", "3 h 20 min", "2 d 4 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
