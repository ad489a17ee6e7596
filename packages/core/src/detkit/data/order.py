"""In which order training images come: a pure function of the seed and the position, for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from detkit.interfaces import Dataset

_BITS = 32
_ONCE = 1 << _BITS
"""An image that comes once in every pass. Repeats are counted in whole numbers of which this makes one, so that sums
are exact, in any order and on every machine."""


class BatchOrder:
    """An endless sequence of batches, each of wide or of tall images alone, so that little of a batch is padding.

    Every image comes once in every pass over its group, in a new order each time; groups take turns at random, in
    proportion to their size. A batch that a pass cannot fill is filled from the next one, so no image is ever left out.

    With `repeats`, an image comes that often in a pass on average: r times for a whole r, else the next lower or the
    next higher number of times. See `_Passes`.

    Args:
        wide: (N,) bool, images that are wider than tall. If either group has less than a batch in a pass, there is one
            group.
        batch_size: images in a batch.
        seed: of the order.
        repeats: (N,) from 0 on, see `Sampler`; once each by default.

    Raises:
        ValueError: there are no images, or repeats are not what they should be.
    """

    def __init__(
        self, wide: NDArray[np.bool_], batch_size: int, seed: int, repeats: NDArray[np.float64] | None = None
    ) -> None:
        if len(wide) == 0 or batch_size < 1:
            raise ValueError(f"{len(wide)} images, batch size {batch_size}: at least 1 of each is needed")
        shares = np.full(len(wide), _ONCE) if repeats is None else _shares(repeats, len(wide))
        passes = [
            _Passes(np.flatnonzero(chosen), shares, (seed, 1 + turn)) for turn, chosen in enumerate((~wide, wide))
        ]
        if min(group.length for group in passes) < batch_size * _ONCE:
            passes = [_Passes(np.arange(len(wide)), shares, (seed, 1))]
        self.groups = passes
        self.batch_size = batch_size
        self.seed = seed

    def batches(self, start: int = 0) -> Iterator[list[int]]:
        """The image positions of batch `start`, `start` + 1, ... Skipping costs nothing worth mentioning."""
        for round_ in count(self._round_of(start)):
            before, after = self._batches_before(round_), self._batches_before(round_ + 1)
            turns = np.repeat(np.arange(len(self.groups)), np.subtract(after, before))
            np.random.default_rng((self.seed, 0, round_)).shuffle(turns)
            position, done = sum(before), list(before)
            for group in turns:
                if position >= start:
                    yield self._batch(int(group), done[group])
                done[group] += 1
                position += 1

    def _round_of(self, batch: int) -> int:
        """The last round with which no batch after this one begins."""
        length = sum(group.length for group in self.groups)
        round_ = (batch * self.batch_size << _BITS) // length
        while round_ and sum(self._batches_before(round_)) > batch:
            round_ -= 1
        return round_

    def _batches_before(self, round_: int) -> list[int]:
        """How many batches of each group end within the first `round_` passes over all images."""
        return [group.before(round_) // self.batch_size for group in self.groups]

    def _batch(self, group: int, number: int) -> list[int]:
        first = number * self.batch_size
        return [self.groups[group][position] for position in range(first, first + self.batch_size)]


class _Passes:
    """One pass over some images after the other, each in a new order, as an endless sequence of image positions.

    In a pass an image comes floor(r) or ceil(r) times, r on average: each pass places the images end to end on a line,
    as long as their repeats, in random order from a random point on, and takes an image for each whole number that it
    covers (systematic resampling: Kitagawa, 1996, "Monte Carlo filter and smoother"). A pass is as long as the sum of
    the repeats, rounded down or up so that all passes before it together are too; the random point is drawn among those
    that give this length. It is uniform then, since the first rounding is random: the averages are exact.

    Args:
        images: (n,) positions.
        shares: of all images, in 1 / _ONCE.
        seed: of these passes.
    """

    def __init__(self, images: NDArray[np.int64], shares: NDArray[np.int64], seed: tuple[int, int]) -> None:
        self.images = images[shares[images] > 0]
        self.shares = shares[self.images]
        self.seed = seed
        self.length = int(self.shares.sum())
        self._whole = not np.any(self.shares & (_ONCE - 1))
        self._once = self._whole and self.length == len(self.images) * _ONCE
        self._phase = 0 if self._whole else int(np.random.default_rng((*seed, 0, 1)).integers(_ONCE))
        self._last: tuple[int, NDArray[np.int64]] = (-1, self.images)

    def before(self, pass_: int) -> int:
        """How many images come before a pass."""
        return (pass_ * self.length + self._phase) >> _BITS

    def __getitem__(self, position: int) -> int:
        pass_ = ((position + 1 << _BITS) - self._phase - 1) // self.length
        if self._last[0] != pass_:  # the last one that was asked for is kept, since batches walk through it
            self._last = (pass_, self._order(pass_))
        return int(self._last[1][position - self.before(pass_)])

    def _order(self, pass_: int) -> NDArray[np.int64]:
        random = np.random.default_rng((*self.seed, pass_))
        if self._once:
            return random.permutation(self.images)
        if self._whole:
            return random.permutation(np.repeat(self.images, self.shares >> _BITS))
        line = random.permutation(len(self.images))
        rest, length = self.length & (_ONCE - 1), self.before(pass_ + 1) - self.before(pass_)
        longer = length > self.length >> _BITS
        offset = random.integers(*((_ONCE - rest, _ONCE) if longer else (0, _ONCE - rest)))
        marks = (np.cumsum(self.shares[line]) + offset) >> _BITS
        return random.permutation(np.repeat(self.images[line], np.diff(marks, prepend=0)))


def _shares(repeats: NDArray[np.float64], images: int) -> NDArray[np.int64]:
    if repeats.shape != (images,):
        raise ValueError(f"repeats are of the shape {repeats.shape}; one number for each of {images} images is needed")
    if not (np.isfinite(repeats).all() and (repeats >= 0).all() and repeats.sum() < 2**30):
        raise ValueError("an image can be repeated any number of times from 0 on; their sum must be below 2^30")
    shares: NDArray[np.int64] = np.rint(repeats * _ONCE).astype(np.int64)
    if shares.sum() < _ONCE:
        raise ValueError(f"all repeats sum to {repeats.sum():g}; an epoch must have at least one image")
    return shares


def wide_images(dataset: Dataset) -> NDArray[np.bool_]:
    """(N,) bool: which images are wider than tall."""
    height, width = dataset.sizes().unbind(1)
    wide: NDArray[np.bool_] = (width > height).numpy()
    return wide


def seeds_of(seed: int, positions: Sequence[int]) -> list[tuple[int, int]]:
    """Two independent seeds for each position in the stream of samples: for its transforms, and for the model."""
    found = []
    for position in positions:
        first, second = np.random.SeedSequence((seed, position)).generate_state(2, np.uint64)
        found.append((int(first >> np.uint64(2)), int(second >> np.uint64(2))))  # they must fit into signed integers
    return found
