from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit.data.divide import divide
from detkit.testing.sampler import Labelled

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def labelled(images: int = 400, classes: int = 12, seed: int = 0) -> Labelled:
    """Images with a few objects of classes that are ever rarer."""
    generator = np.random.default_rng(seed)
    chances = 0.6 ** np.arange(classes)
    return Labelled(
        [
            generator.choice(classes, generator.integers(0, 5), p=chances / chances.sum()).tolist()
            for _ in range(images)
        ],
        [f"class {number}" for number in range(classes)],
    )


def images_of(dataset: Labelled, positions: list[int]) -> Counter[int]:
    """In how many of these images each class is."""
    return Counter(label for index in positions for label in set(dataset.labels(index).tolist()))


def test_all_images_are_in_one_part_each() -> None:
    parts = divide(labelled(), SHARES)
    assert list(parts) == ["train", "val", "test"]
    assert sorted(index for positions in parts.values() for index in positions) == list(range(400))
    assert all(positions == sorted(positions) for positions in parts.values())


def test_parts_have_their_share_of_every_class() -> None:
    dataset = labelled()
    whole, parts = images_of(dataset, list(range(400))), divide(dataset, SHARES)
    for name, share in SHARES.items():
        assert abs(len(parts[name]) - 400 * share) <= 8
        found = images_of(dataset, parts[name])
        for label, count in whole.items():
            assert abs(found[label] - count * share) <= 2 + 0.03 * count


def test_rare_classes_are_spread() -> None:
    dataset = Labelled([[0]] * 90 + [[0, 1]] * 3, ["common", "rare"])
    parts = divide(dataset, {"train": 1, "val": 1, "test": 1})
    assert [images_of(dataset, positions)[1] for positions in parts.values()] == [1, 1, 1]


def test_the_same_seed_gives_the_same_parts() -> None:
    dataset = labelled()
    assert divide(dataset, SHARES, seed=3) == divide(dataset, SHARES, seed=3)
    assert divide(dataset, SHARES, seed=3) != divide(dataset, SHARES, seed=4)


def test_without_classes_images_are_dealt_at_random() -> None:
    parts = divide(labelled(), SHARES, by_class=False)
    assert [len(positions) for positions in parts.values()] == [320, 40, 40]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), groups=st.integers(3, 40))
def test_groups_stay_together(seed: int, groups: int) -> None:
    dataset = labelled(120, seed=seed)
    names = [f"scene {index % groups}" for index in range(120)]
    parts = divide(dataset, {"train": 0.6, "val": 0.4}, groups=names, seed=seed)
    where = {name: {names[index] for index in positions} for name, positions in parts.items()}
    assert not where["train"] & where["val"]
    assert abs(len(parts["train"]) - 72) <= 120 / groups + 12


def test_an_empty_part_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing is left for val: there are 2 groups of images"):
        divide(labelled(10), {"a": 0.5, "b": 0.4, "val": 0.1}, groups=["x", "y"] * 5)
    with pytest.raises(ValueError, match="shares above 0"):
        divide(labelled(10), {"a": 0.0, "b": 1.0})
