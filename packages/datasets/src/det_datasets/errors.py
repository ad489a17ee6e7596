"""Going on after what is wrong with one file or entry, so that all that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from detkit.data.problems import SeveralErrors


class Errors:
    """What was wrong so far: a reader goes on with the next file, and calls `raise_all` after the last."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    def note(self, message: str) -> None:
        self._messages.append(message)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note a ValueError, and go on after the block."""
        try:
            yield
        except SeveralErrors as error:
            self._messages += error.messages
        except ValueError as error:
            self.note(str(error))

    def raise_all(self) -> None:
        """ValueError with all that was noted, if anything was."""
        if self._messages:
            raise SeveralErrors(self._messages)
