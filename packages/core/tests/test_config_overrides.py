from __future__ import annotations

import pytest

from detkit.config import ConfigError
from detkit.config.overrides import apply, from_arguments

TREE = {"a": {"b": 1, "c": [{"d": 2}, 3]}, "part": {"name": "x", "y": 1}, "word": "x"}


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("a.b=5", ("a", "b"), 5),
        ("a.b= text ", ("a", "b"), "text"),
        ("a.b=x=y", ("a", "b"), "x=y"),
        ("a.b=", ("a", "b"), None),
        ("a.b=[1, {c: d}]", ("a", "b"), [1, {"c": "d"}]),
        ("a.new.deep=1", ("a", "new"), {"deep": 1}),
        ("a.c.0.d=9", ("a", "c"), [{"d": 9}, 3]),
        ("part.z=2", ("part",), {"name": "x", "y": 1, "z": 2}),
        ("part={z: 2}", ("part",), {"name": "x", "y": 1, "z": 2}),
        ("part.name=w", ("part",), {"name": "w"}),
        ("part=w", ("part",), {"name": "w"}),
        ("word.y=1", ("word",), {"name": "x", "y": 1}),
    ],
)
def test_one_change(override: str, path: tuple[str, ...], value: object) -> None:
    found: object = apply(TREE, [override])
    for part in path:
        assert isinstance(found, dict)
        found = found[part]
    assert found == value


def test_epochs_take_the_place_of_steps() -> None:
    assert apply({"train": {"steps": 90, "seed": 1}}, ["train.epochs=3"]) == {"train": {"epochs": 3, "seed": 1}}


def test_the_given_tree_stays_as_it_is() -> None:
    apply(TREE, ["a.c.0.d=9", "part.name=w"])
    assert TREE["a"] == {"b": 1, "c": [{"d": 2}, 3]}


def test_later_changes_win() -> None:
    assert apply({}, ["a=1", "a=2"]) == {"a": 2}


def test_all_malformed_changes_are_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        apply(TREE, ["nothing", "=1", "a.c.7=1", "a.b.x=1", "a.b=[1"])
    assert [problem.path for problem in caught.value.problems] == ["nothing", "=1", "a.c.7", "a.b.x", "a.b"]
    assert caught.value.problems[2].message == "there is no entry '7' in a list of 2 (the first is 0)"
    assert caught.value.problems[4].message.startswith("'[1': line 1: not valid YAML")


def test_command_line_arguments() -> None:
    given = ["a.b=1", "--c.d", "2", "--e=3", "--f.g", "-1", "h=--x"]
    assert from_arguments(given) == ["a.b=1", "c.d=2", "e=3", "f.g=-1", "h=--x"]


@pytest.mark.parametrize("argument", ["word", "--last", "-x"])
def test_other_arguments_are_refused(argument: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot read '{argument}'"):
        from_arguments([argument])
