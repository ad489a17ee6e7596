from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.data.order import BatchOrder, _Passes
from detkit.data.samplers import (
    ClassBalanced,
    RepeatFactor,
    Subset,
    Weighted,
    image_counts,
    labels_in_images,
    repeats_of,
)
from detkit.testing.sampler import LABELS, Labelled

REPEATS = st.lists(st.floats(0, 4, width=16), min_size=1, max_size=12).filter(lambda values: sum(values) >= 1)


def passes(repeats: list[float], seed: int) -> _Passes:
    shares = np.rint(np.array(repeats) * 2**32).astype(np.int64)
    return _Passes(np.arange(len(repeats)), shares, (seed, 1))


def counts(order: _Passes, pass_: int, images: int) -> np.ndarray:
    found = order._order(pass_)
    assert len(found) == order.before(pass_ + 1) - order.before(pass_)
    return np.bincount(found, minlength=images)


@given(REPEATS, st.integers(0, 5), st.integers(0, 30))
def test_in_a_pass_an_image_comes_as_often_as_its_repeats_rounded_down_or_up(
    repeats: list[float], seed: int, pass_: int
) -> None:
    found = counts(passes(repeats, seed), pass_, len(repeats))
    assert (found >= np.floor(repeats)).all()
    assert (found <= np.ceil(repeats)).all()


@given(REPEATS, st.integers(0, 5))
def test_passes_are_as_long_as_all_repeats_together(repeats: list[float], seed: int) -> None:
    order = passes(repeats, seed)
    for pass_ in range(20):
        assert abs(order.before(pass_) - pass_ * sum(repeats)) < 1
        assert order.before(pass_ + 1) - order.before(pass_) in (np.floor(sum(repeats)), np.ceil(sum(repeats)))


@pytest.mark.parametrize("pass_", [0, 7])
@pytest.mark.parametrize("repeats", [[0.5, 0.25, 1.75], [1.3, 1.7], [0.1, 0.2, 0.3, 2.05], [1.0, 1.5, 0.0]])
def test_repeats_are_kept_on_average_in_every_pass(repeats: list[float], pass_: int) -> None:
    """Over seeds; the counts of one image are two neighbouring numbers, so their mean is off by at most 0.5/sqrt(n) a
    standard deviation."""
    seeds = 1500
    mean = sum(counts(passes(repeats, seed), pass_, len(repeats)) for seed in range(seeds)) / seeds
    np.testing.assert_allclose(mean, repeats, atol=4.5 * 0.5 / seeds**0.5)


def test_repeats_are_kept_on_average_over_passes() -> None:
    repeats = [1.3, 1.7, 0.4, 0.6]
    order = passes(repeats, 3)
    mean = sum(counts(order, pass_, 4) for pass_ in range(1500)) / 1500
    np.testing.assert_allclose(mean, repeats, atol=4.5 * 0.5 / 1500**0.5)


@given(REPEATS, st.integers(1, 5), st.integers(0, 60), st.data())
def test_a_resumed_stream_of_repeated_images_goes_on_where_it_was(
    repeats: list[float], batch_size: int, start: int, data: st.DataObject
) -> None:
    wide = np.array(data.draw(st.lists(st.booleans(), min_size=len(repeats), max_size=len(repeats))))

    def take(first: int, count: int) -> list[list[int]]:
        stream = BatchOrder(wide, batch_size, 1, np.array(repeats)).batches(first)
        return [next(stream) for _ in range(count)]

    assert take(start, 4) == take(0, start + 4)[start:]


def test_repeated_images_stay_among_those_of_their_shape() -> None:
    wide = np.arange(60) % 3 == 0
    stream = BatchOrder(wide, 4, 0, np.linspace(0, 3, 60)).batches()
    for _ in range(100):
        assert len(set(wide[next(stream)])) == 1


@pytest.mark.parametrize(
    ("repeats", "message"),
    [
        ([0.0, 0.0], "sum to 0; an epoch must have at least one image"),
        ([1.0], r"shape \(1,\)"),
        ([-1.0, 1.0], "from 0 on"),
        ([np.inf, 1], "2"),
    ],
)
def test_impossible_repeats_are_refused(repeats: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchOrder(np.zeros(2, bool), 1, 0, np.array(repeats))


def test_classes_are_counted_once_in_an_image() -> None:
    images, labels = labels_in_images(Labelled())
    expected = sorted({(image, label) for image, entry in enumerate(LABELS) for label in entry})
    assert sorted(zip(images.tolist(), labels.tolist(), strict=True)) == expected
    assert image_counts(Labelled()).tolist() == [3, 7, 1, 0]


def test_repeat_factors_are_those_of_lvis() -> None:
    """The rarest class of an image decides; written out from the paper."""
    share = {0: 0.3, 1: 0.7, 2: 0.1}
    for sqrt, power in ((True, 0.5), (False, 1.0)):
        expected = [max([1.0, *((0.5 / share[label]) ** power for label in entry)]) for entry in LABELS]
        np.testing.assert_allclose(RepeatFactor(threshold=0.5, sqrt=sqrt).repeats(Labelled()), expected)


def test_balancing_shows_classes_equally_often() -> None:
    """Of images with one class each, a third of the samples is of each class, and images without objects come once."""
    labels = [[0]] * 6 + [[1]] * 2 + [[2]] + [[]] * 3
    repeats = ClassBalanced().repeats(Labelled(labels))
    np.testing.assert_allclose([repeats[:6].sum(), repeats[6:8].sum(), repeats[8]], 3.0)
    np.testing.assert_allclose(repeats[9:], 1.0)
    assert ClassBalanced().repeats(Labelled()).sum() == pytest.approx(len(LABELS))


def test_the_largest_weight_of_its_classes_is_that_of_an_image() -> None:
    repeats = Weighted(categories={"RARE": 6, "frequent": 0.5}, default=2.0).repeats(Labelled())
    weights = [max([{0: 2.0, 1: 0.5, 2: 6.0}[label] for label in entry], default=2.0) for entry in LABELS]
    np.testing.assert_allclose(repeats, np.array(weights) * 10 / sum(weights))


def test_weights_of_images_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "weights.json").write_text(json.dumps({"103": 11.0, "100": 0}))
    repeats = Weighted(file=tmp_path / "weights.json").repeats(Labelled())
    np.testing.assert_allclose(repeats * 19 / 10, [0, 1, 1, 11, 1, 1, 1, 1, 1, 1])


@pytest.mark.parametrize(("arguments", "size"), [({"fraction": 0.35}, 3), ({"count": 4}, 4), ({"fraction": 0.01}, 1)])
def test_a_random_subset_is_the_same_every_time(arguments: dict[str, Any], size: int) -> None:
    first, other = (Subset(**arguments, seed=seed).repeats(Labelled()) for seed in (0, 1))
    assert sorted(first) == [0.0] * (10 - size) + [1.0] * size
    assert (first == Subset(**arguments).repeats(Labelled())).all()
    assert (first != other).any()


@pytest.mark.parametrize(("name", "text"), [("ids.json", "[101, 108]"), ("ids.txt", "101\n108\n")])
def test_a_subset_may_be_listed(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    for images in (tmp_path / name, [101, "108"]):
        assert Subset(images=images).repeats(Labelled()).nonzero()[0].tolist() == [1, 8]


def test_images_without_objects_can_be_left_out() -> None:
    shown = Subset(with_objects=True).repeats(Labelled())
    assert shown.astype(bool).tolist() == [bool(entry) for entry in LABELS]
    assert 0 < shown.sum() < len(LABELS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RepeatFactor(threshold=0), "above 0 and at most 1"),
        (lambda: Weighted(), "give either"),
        (lambda: Weighted(categories={"rare": -1}), "below 0"),
        (lambda: Weighted(categories={"rear": 1}).repeats(Labelled()), "'rear', and the data has no such class"),
        (lambda: Weighted(categories={}, default=0).repeats(Labelled()), "sum to 0"),
        (lambda: Weighted(file=Path("nowhere.json")).repeats(Labelled()), r"cannot read nowhere\.json"),
        (lambda: Subset(), "give one of"),
        (lambda: Subset(fraction=0.5, count=3), "give one of"),
        (lambda: Subset(fraction=1.5), "at most 1"),
        (lambda: Subset(count=0), "at least 1"),
        (lambda: Subset(count=11).repeats(Labelled()), "11 images is asked for, of 10"),
        (lambda: Subset(images=[100, 7]).repeats(Labelled()), "images: 1 of 2 images are not in the dataset: 7"),
        (lambda: Subset(images=[100, "100"]).repeats(Labelled()), "listed twice"),
    ],
)
def test_what_makes_no_sense_is_explained(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_without_a_sampler_each_image_comes_once() -> None:
    assert repeats_of(Labelled(), None).tolist() == [1.0] * 10
