"""Running a click command inside `detkit`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click


def run(command: click.Command, name: str, argv: Sequence[str]) -> int:
    """Run a click command as `detkit NAME`; its exit code. click prints wrong usage; other errors propagate."""
    try:
        command.main(args=list(argv), prog_name=f"detkit {name}")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    raise AssertionError("click ends a command with SystemExit")


@contextmanager
def without_warnings() -> Iterator[None]:
    """Where a command reports by itself what readers of data would log."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
