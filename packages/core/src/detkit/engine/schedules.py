"""Learning rate schedules. Points in a run are steps, or fractions of it (between 0 and 1), which fit any length."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from detkit.interfaces import Schedule


def point(value: float, steps: int) -> float:
    """A point in a run of `steps` steps as a step: a value between 0 and 1 is a fraction of the run."""
    return value * steps if 0 < value < 1 else value


class _WarmUp(Schedule):
    """Rises linearly over `warmup` from `warmup_factor` times the schedule's first value to its value there."""

    def __init__(self, *, warmup: float, warmup_factor: float) -> None:
        if warmup < 0 or not 0 <= warmup_factor <= 1:
            raise ValueError(
                f"warmup is {warmup}, warmup_factor {warmup_factor}; warmup >= 0 and a factor in [0, 1] needed"
            )
        self.warmup = warmup
        self.warmup_factor = warmup_factor

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by in this step."""
        length = min(point(self.warmup, steps), steps)
        if step >= length:
            return self._after(step, steps)
        start, end = self.warmup_factor * self._after(0, steps), self._after(length, steps)
        return start + (end - start) * step / length

    def _after(self, step: float, steps: int) -> float:
        """The schedule without warm-up."""
        raise NotImplementedError


class Constant(_WarmUp):
    """The same learning rate throughout, after the warm-up.

    Args:
        warmup: steps, or a fraction of the run.
        warmup_factor: where the warm-up starts.
    """

    def __init__(self, *, warmup: float = 1000, warmup_factor: float = 0.001) -> None:
        super().__init__(warmup=warmup, warmup_factor=warmup_factor)

    def _after(self, step: float, steps: int) -> float:
        return 1.0


class MultiStep(_WarmUp):
    """Multiplies the learning rate by `gamma` at each milestone.

    Args:
        milestones: steps (60000), or fractions of the run (0.67), rising.
        gamma: what the learning rate is multiplied by at each.
        warmup: steps, or a fraction of the run.
        warmup_factor: where the warm-up starts.
    """

    def __init__(
        self, *, milestones: Sequence[float], gamma: float = 0.1, warmup: float = 1000, warmup_factor: float = 0.001
    ) -> None:
        super().__init__(warmup=warmup, warmup_factor=warmup_factor)
        self.milestones = tuple(milestones)
        self.gamma = gamma
        fractions = [0 < milestone < 1 for milestone in self.milestones]
        rising = list(self.milestones) == sorted(set(self.milestones))
        if min(self.milestones, default=1) <= 0 or not rising or len(set(fractions)) > 1:
            raise ValueError(
                f"milestones are {list(self.milestones)}; rising steps (above 0) or rising fractions of it (between "
                "0 and 1) are needed, not both kinds"
            )

    def _after(self, step: float, steps: int) -> float:
        # a step, not a fraction of one: round what the fractions give
        marks = [round(point(milestone, steps)) for milestone in self.milestones]
        return self.gamma ** bisect.bisect_right(marks, step)


class Cosine(_WarmUp):
    """Falls along half a cosine from 1 to `end` (Loshchilov and Hutter, 2017, "SGDR").

    Args:
        end: what the learning rate is multiplied by at the end of the run.
        warmup: steps, or a fraction of the run.
        warmup_factor: where the warm-up starts.
    """

    def __init__(self, *, end: float = 0.0, warmup: float = 1000, warmup_factor: float = 0.001) -> None:
        super().__init__(warmup=warmup, warmup_factor=warmup_factor)
        if not 0 <= end <= 1:
            raise ValueError(f"end is {end}; it is a factor between 0 and 1")
        self.end = end

    def _after(self, step: float, steps: int) -> float:
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * step / steps))
