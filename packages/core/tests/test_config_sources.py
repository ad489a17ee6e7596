from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from detkit.config import Config, ConfigError
from detkit.config.sources import layers, merge, merge_layers
from detkit.plugins import Component, Registry, hookimpl

pytestmark = pytest.mark.usefixtures("sample")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}, {"a": 1, "b": {"c": 2, "d": 3}}),
        ({"name": "x", "a": 1}, {"a": 2}, {"name": "x", "a": 2}),
        ({"name": "x", "a": 1}, {"name": "x", "b": 2}, {"name": "x", "a": 1, "b": 2}),
        ({"name": "x", "a": 1}, {"name": "y", "b": 2}, {"name": "y", "b": 2}),
        ({"name": "x", "a": 1}, "y", {"name": "y"}),
        ("x", {"a": 1}, {"name": "x", "a": 1}),
        ({"steps": 5, "a": 1}, {"epochs": 2}, {"epochs": 2, "a": 1}),
        ({"steps": None, "epochs": 2}, {"steps": 5}, {"steps": 5}),
        ({"steps": 5}, {"epochs": None}, {"steps": 5, "epochs": None}),
        ({}, {"steps": 5, "epochs": 2}, {"steps": 5, "epochs": 2}),
        ([1, 2], [3], [3]),
        ({"a": 1}, None, None),
    ],
)
def test_merging(base: object, over: object, merged: object) -> None:
    assert merge(base, over) == merged


def test_a_recipe_is_based_on_another() -> None:
    tree = Config.load("sample/second").tree
    assert tree["model"]["backbone"]["depth"] == 5
    assert tree["model"]["backbone"]["norm"] == "gn"
    assert tree["train"]["steps"] == 20


def test_published_results_are_not_inherited() -> None:
    about = Config.load("sample/second").tree["about"]
    assert about == {"summary": "the second", "task": "detection", "licence": {"code": "Apache-2.0"}}


def test_a_file_is_based_on_a_recipe_or_on_a_file_beside_it(write: Callable[[str, str], Path]) -> None:
    write("common/base.yaml", "base: sample/first\ntrain: {steps: 7}\n")
    path = write("mine/config.yaml", "base: ../common/base.yaml\nmodel: {backbone: {depth: 9}}\n")
    for source in (path, path.parent, str(path)):
        config = Config.load(source)
        assert (config.get("train.steps"), config.get("model.backbone.depth")) == (7, 9)


def test_a_mapping_is_a_config() -> None:
    assert Config.load({"base": "sample/first", "data": Path("x") / "y"}).get("data") == str(Path("x/y"))


def test_an_unknown_recipe_suggests_near_ones() -> None:
    with pytest.raises(ConfigError, match="no recipe is called 'sample/frist'\n  did you mean: sample/first"):
        Config.load("sample/frist")


def test_an_unknown_base_names_the_file(write: Callable[[str, str], Path]) -> None:
    path = write("a.yaml", "base: sample/frist\n")
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    assert str(caught.value).startswith(f"{path}: base: no recipe is called 'sample/frist'")


def test_a_circle_of_bases_is_named(write: Callable[[str, str], Path]) -> None:
    path = write("a.yaml", "base: b.yaml\n")
    write("b.yaml", "base: a.yaml\n")
    with pytest.raises(ConfigError, match=r"base: the config is based on itself: .*a.yaml -> b.yaml -> a.yaml"):
        Config.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got nothing; wanted a mapping"),
        ("- 1\n", r"got \[1\]; wanted a mapping"),
        ("base: [1]\n", r"base: got \[1\]; wanted a recipe's name"),
        ("data: a\ndata: b\n", "line 2: not valid YAML: 'data' is given twice"),
        ("data: {a\n", "line 2: not valid YAML"),
        ("data: !!python/object:os.system {}\n", "not valid YAML: could not determine a constructor"),
        ("data: 2024-13-45\n", "not valid YAML: month must be in 1..12"),
        ("data: 2024-01-02\n", r"data: got datetime.date\(2024, 1, 2\) \(date\), which a config cannot hold"),
        ("on: 1\n", "True: the key True is not text; put it in quotes"),
        ("about: {x: .nan}\n", r"about.x: not a number \(nan\)"),
        ("about: {x: 99999999999999999999}\n", "about.x: the number is too large"),
        ("about: &a [*a]\n", "more than 40 levels deep; does an alias contain itself"),
        ("a: 1\n---\nb: 2\n", "not valid YAML: but found another document"),
        ("data: \x07\n", "not valid YAML: unacceptable character #x0007"),
    ],
)
def test_a_file_that_is_no_config_is_refused(write: Callable[[str, str], Path], text: str, message: str) -> None:
    path = write("a.yaml", text)
    with pytest.raises(ConfigError, match=message) as caught:
        Config.load(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"there is no config file {tmp_path}/a.yaml"):
        Config.load(tmp_path / "a.yaml")


def test_a_plugin_without_its_recipe_file_is_named(sample: Registry) -> None:
    recipe = Component(kind="recipe", name="acme/r", target="sample:recipes/r.yaml")
    sample.register(type("Plugin", (), {"detkit_components": staticmethod(hookimpl(lambda: [recipe]))}), "acme")
    with pytest.raises(ConfigError, match="recipe 'acme/r' of plugin acme has no file"):
        Config.load("acme/r")


def test_layers_are_read_without_importing_what_they_name(write: Callable[[str, str], Path]) -> None:
    path = write("a.yaml", "base: sample/second\nmodel: nothing\n")
    chain = layers(path)
    assert [layer.label for layer in chain] == ["sample/first", "sample/second", str(path)]
    assert merge_layers(chain)["model"] == {"name": "nothing"}
