"""Trying again what a network may do at the second time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSES = (0.5, 2.0, 8.0)  # seconds before the second, the third and the fourth time


class Final(OSError):
    """An error that stays: trying again would not help."""


def persistently(call: Callable[[], T]) -> T:
    """What a call returns, at the fourth time at the latest.

    Raises:
        OSError: of the last time, or the first `Final`.
    """
    for pause in (*PAUSES, None):
        try:
            return call()
        except Final:
            raise
        except OSError as error:
            if pause is None:
                raise OSError(f"{error} ({len(PAUSES) + 1} times)") from error
            time.sleep(pause)
    raise AssertionError("the last time returns or raises")
