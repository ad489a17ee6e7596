"""In which order training images come: a pure function of the seed and the position, for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from detkit.interfaces import Dataset


class BatchOrder:
    """An endless sequence of batches, each of wide or of tall images alone, so that little of a batch is padding.

    Every image comes once in every pass over its group, in a new order each time; groups take turns at random, in
    proportion to their size. A batch that a pass cannot fill is filled from the next one, so no image is ever left out.

    Args:
        wide: (N,) bool, images that are wider than tall. If either group is smaller than a batch, there is one group.
        batch_size: images in a batch.
        seed: of the order.
    """

    def __init__(self, wide: NDArray[np.bool_], batch_size: int, seed: int) -> None:
        if len(wide) == 0 or batch_size < 1:
            raise ValueError(f"{len(wide)} images, batch size {batch_size}: at least 1 of each is needed")
        groups = [np.flatnonzero(~wide), np.flatnonzero(wide)]
        if min(map(len, groups)) < batch_size:
            groups = [np.arange(len(wide))]
        self.groups = groups
        self.batch_size = batch_size
        self.seed = seed
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def batches(self, start: int = 0) -> Iterator[list[int]]:
        """The image positions of batch `start`, `start` + 1, ... Skipping costs nothing worth mentioning."""
        for round_ in count():
            before, after = self._batches_before(round_), self._batches_before(round_ + 1)
            if sum(after) <= start:
                continue
            turns = np.repeat(np.arange(len(self.groups)), np.subtract(after, before))
            np.random.default_rng((self.seed, 0, round_)).shuffle(turns)
            position, done = sum(before), list(before)
            for group in turns:
                if position >= start:
                    yield self._batch(int(group), done[group])
                done[group] += 1
                position += 1

    def _batches_before(self, round_: int) -> list[int]:
        """How many batches of each group end within the first `round_` passes over all images."""
        return [round_ * len(group) // self.batch_size for group in self.groups]

    def _batch(self, group: int, number: int) -> list[int]:
        size, found = len(self.groups[group]), []
        for position in range(number * self.batch_size, (number + 1) * self.batch_size):
            pass_, place = divmod(position, size)
            found.append(int(self._permutation(group, pass_)[place]))
        return found

    def _permutation(self, group: int, pass_: int) -> NDArray[np.int64]:
        """The order of a group in one pass; the last one asked for is kept, since batches walk through it."""
        number, order = self._orders.get(group, (-1, self.groups[group]))
        if number != pass_:
            order = np.random.default_rng((self.seed, 1 + group, pass_)).permutation(self.groups[group])
            self._orders[group] = (pass_, order)
        return order


def wide_images(dataset: Dataset) -> NDArray[np.bool_]:
    """(N,) bool: which images are wider than tall."""
    sizes = (dataset.size(index) for index in range(len(dataset)))
    return np.fromiter((width > height for height, width in sizes), bool, len(dataset))


def seeds_of(seed: int, positions: Sequence[int]) -> list[tuple[int, int]]:
    """Two independent seeds for each position in the stream of samples: for its transforms, and for the model."""
    found = []
    for position in positions:
        first, second = np.random.SeedSequence((seed, position)).generate_state(2, np.uint64)
        found.append((int(first >> np.uint64(2)), int(second >> np.uint64(2))))  # they must fit into signed integers
    return found
