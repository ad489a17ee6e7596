"""Many names written as one."""

from __future__ import annotations

import re
from itertools import product

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand(pattern: str) -> list[str]:
    """All names of "train-{000..009}.tar" or "{train,extra}.tar", as a shell writes them.

    Raises:
        ValueError: a range ends before it starts.
    """
    pieces = _BRACES.split(pattern)  # text, inside of braces, text, ...
    choices = [_choices(piece) if number % 2 else [piece] for number, piece in enumerate(pieces)]
    return ["".join(chosen) for chosen in product(*choices)]


def _choices(inside: str) -> list[str]:
    match = _RANGE.fullmatch(inside)
    if not match:
        return inside.split(",") if "," in inside else [f"{{{inside}}}"]
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise ValueError(f"{{{inside}}} ends before it starts")
    return [f"{number:0{len(match[1])}}" for number in range(first, last + 1)]
