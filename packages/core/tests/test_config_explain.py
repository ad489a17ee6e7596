from __future__ import annotations

import pytest

from detkit.config import Config, ConfigError
from detkit.config.explain import differences, explain
from detkit.config.schema import documentation

pytestmark = pytest.mark.usefixtures("sample")


def test_an_option_is_explained_without_a_config() -> None:
    assert explain("train.steps").splitlines() == [
        "train.steps: a whole number or null",
        "  length of the run in optimizer steps. Give this or `epochs`.",
        "  default: null",
    ]


@pytest.mark.parametrize(
    ("overrides", "origin"),
    [([], "sample/second"), (["model.backbone.depth=8"], "the command line")],
)
def test_the_value_and_its_origin_are_explained(overrides: list[str], origin: str) -> None:
    lines = explain("model.backbone.depth", Config.load("sample/second", overrides)).splitlines()
    assert lines[:3] == ["model.backbone.depth: a whole number", "  how deep it is; at least 1.", "  default: 2"]
    assert lines[-1] == f"  from: {origin}"


def test_defaults_and_bases_are_origins_too() -> None:
    config = Config.load("sample/second")
    assert "  from: sample/first" in explain("model.backbone.norm", config)
    assert "  from: the default" in explain("model.heads.0.num_classes", config)
    assert "filled in where it is left out: the number of classes" in explain("model.heads.0.num_classes", config)


def test_a_list_of_slots_lists_what_fits() -> None:
    text = explain("transforms")
    assert "  every transform:\n" in text
    assert "    flip  " in text


def test_a_slot_lists_what_fits_and_what_was_chosen() -> None:
    text = explain("model.backbone", Config.load("sample/first"))
    assert "  every backbone:\n" in text
    assert "    sample/wide" in text
    assert "  sample/plain: Plain.\n    depth: a whole number. how deep it is; at least 1." in text


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("train.stesp", "train.stesp: there is no such option; did you mean 'steps'"),
        ("model.backbone", "model: what it takes depends on the detector chosen there; there are: .*sample/detector"),
        ("data.x", "data.x: data is text; it has no parts"),
    ],
)
def test_an_unknown_key_says_what_there_is(key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        explain(key)


def test_a_list_entry_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"model.heads.4: the list has 1 entries, counted from 0"):
        explain("model.heads.4", Config.load("sample/first"))


def test_differences_name_each_option() -> None:
    first, second = Config.load("sample/first").tree, Config.load("sample/second").tree
    found = differences(first, second)
    assert "model.backbone.depth: 3 -> 5" in found
    assert "train.steps: 10 -> 20" in found
    assert "about.published: {box AP: 12.5} -> (not there)" in found
    assert differences(first, first) == []


def test_another_component_is_one_difference() -> None:
    first = {"part": {"name": "x", "a": 1}}
    assert differences(first, {"part": {"name": "y", "b": 1}}) == ["part: {name: x, a: 1} -> {name: y, b: 1}"]


def test_documentation_of_several_arguments_in_one_line() -> None:
    def function() -> None:
        """Head.

        Args:
            a, b: both
                of them.
            c: alone.

        Raises:
            ValueError: never.
        """

    assert documentation(function) == ("Head.", {"a": "both of them.", "b": "both of them.", "c": "alone."})
