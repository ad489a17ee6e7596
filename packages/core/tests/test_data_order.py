from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.data.order import BatchOrder, seeds_of

WIDE = st.lists(st.booleans(), min_size=1, max_size=40).map(lambda values: np.array(values))


def take(order: BatchOrder, count: int, start: int = 0) -> list[list[int]]:
    return list(islice(order.batches(start), count))


@given(WIDE, st.integers(1, 9), st.integers(0, 50))
def test_a_resumed_stream_goes_on_where_it_was(wide: np.ndarray, batch_size: int, start: int) -> None:
    whole = take(BatchOrder(wide, batch_size, seed=3), start + 5)
    assert take(BatchOrder(wide, batch_size, seed=3), 5, start) == whole[start:]


@given(WIDE, st.integers(1, 9))
def test_every_image_comes_equally_often(wide: np.ndarray, batch_size: int) -> None:
    """After as many batches as passes can be cut into, whatever the sizes of the groups."""
    passes = batch_size
    batches = take(BatchOrder(wide, batch_size, seed=0), passes * len(wide) // batch_size)
    counts = np.bincount(np.concatenate(batches), minlength=len(wide))
    assert (counts == passes).all()


def test_batches_are_all_wide_or_all_tall() -> None:
    wide = np.arange(50) % 3 == 0
    for batch in take(BatchOrder(wide, 4, seed=0), 100):
        assert len(set(wide[batch])) == 1


def test_few_images_of_one_kind_are_mixed_with_the_others() -> None:
    wide = np.arange(50) == 0
    assert len(BatchOrder(wide, 4, seed=0).groups) == 1


def test_another_seed_is_another_order() -> None:
    wide = np.zeros(50, bool)
    assert take(BatchOrder(wide, 4, seed=0), 3) != take(BatchOrder(wide, 4, seed=1), 3)


def test_passes_differ() -> None:
    batches = take(BatchOrder(np.zeros(40, bool), 40, seed=0), 2)
    assert batches[0] != batches[1]


def test_starting_late_is_cheap() -> None:
    order = BatchOrder(np.zeros(1000, bool), 10, seed=0)
    assert len(next(order.batches(1_000_000))) == 10


def test_no_images_are_an_error() -> None:
    with pytest.raises(ValueError, match="0 images, batch size 4"):
        BatchOrder(np.zeros(0, bool), 4, seed=0)


def test_seeds_fit_into_signed_integers_and_differ() -> None:
    seeds = np.array(seeds_of(0, range(1000)))
    assert seeds.min() >= 0
    assert seeds.max() < 2**62
    assert len(np.unique(seeds)) == 2000
