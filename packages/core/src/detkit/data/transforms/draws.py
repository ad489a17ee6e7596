"""Drawing numbers at random, from torch's generator, which the loader seeds for every sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def chance(p: float) -> bool:
    """True with probability `p`."""
    return float(torch.rand(())) < p


def number(low: float, high: float) -> float:
    """Any number from `low` to `high`."""
    return low + float(torch.rand(())) * (high - low)


def integer(low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, ()))


def one_of(choices: Sequence[T]) -> T:
    """One of the choices, all alike."""
    return choices[integer(0, len(choices) - 1)]


def check_probability(name: str, p: float) -> None:
    """Raises ValueError unless `p` is a probability."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name} is {p}; a probability from 0 to 1 is needed")


def check_grey(name: str, value: int) -> None:
    """Raises ValueError unless `value` is a grey value."""
    if not 0 <= value <= 255:
        raise ValueError(f"{name} is {value}; a grey value from 0 to 255 is needed")


def check_range(name: str, bounds: Sequence[float], low: float = float("-inf"), high: float = float("inf")) -> None:
    """Raises ValueError unless `bounds` are two rising numbers from `low` to `high`."""
    if len(bounds) != 2 or not low <= bounds[0] <= bounds[1] <= high:
        raise ValueError(f"{name} is {list(bounds)}; two numbers are needed, the smaller first, from {low} to {high}")
