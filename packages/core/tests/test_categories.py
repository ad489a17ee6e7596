from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.structures.categories import Categories

PAIRS = st.tuples(st.integers(-5, 10**6), st.text(min_size=1))


@given(st.lists(PAIRS, min_size=1, unique_by=(lambda pair: pair[0], lambda pair: pair[1])).map(dict))
def test_ids_come_back_whatever_they_are(names_by_id: dict[int, str]) -> None:
    entries = [{"id": id, "name": name} for id, name in names_by_id.items()]
    categories = Categories.from_coco(entries)
    for id, name in names_by_id.items():
        label = categories.label_of_id(id)
        assert (categories.ids[label], categories.names[label]) == (id, name)
    assert Categories.from_dict(json.loads(json.dumps(categories.to_dict()))) == categories


def test_labels_follow_the_ids_not_the_file() -> None:
    categories = Categories.from_coco([{"id": 9, "name": "b"}, {"id": 2, "name": "a", "supercategory": "letter"}])
    assert (categories.names, categories.ids, categories.supercategories) == (("a", "b"), (2, 9), ("letter", ""))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ("a", "a")}, "category name given more than once: a"),
        ({"names": ("a", "b"), "ids": (1, 1)}, "category id given more than once: 1"),
        ({"names": ("a", "b"), "ids": (1,)}, "2 category names but 1 ids"),
        ({"names": ("a",), "supercategories": ("x", "y")}, "1 category names but 2 supercategories"),
    ],
)
def test_contradictions_are_errors(arguments: dict[str, tuple[object, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Categories(**arguments)  # type: ignore[arg-type]


def test_classes_are_recognised_in_other_spellings_but_exact_names_come_first() -> None:
    categories = Categories(("dog", "Cat", "cat"))
    assert [categories.label_like(name) for name in ("cat", "Cat", "DOG", "cow")] == [2, 1, 0, None]
