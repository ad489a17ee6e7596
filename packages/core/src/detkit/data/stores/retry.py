"""Trying again what a network may do at the second time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSES = (0.5, 2.0)  # seconds before the second and the third time


class Final(OSError):
    """An error that stays: trying again would not help."""


def persistently(call: Callable[[], T]) -> T:
    """What a call returns, at the third time at the latest.

    Raises:
        OSError: of the last time, or the first `Final`.
    """
    for pause in PAUSES:
        try:
            return call()
        except Final:
            raise
        except OSError:
            time.sleep(pause)
    try:
        return call()
    except Final:
        raise
    except OSError as error:
        raise OSError(f"{error} ({len(PAUSES) + 1} times)") from error
