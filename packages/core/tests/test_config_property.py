"""Whatever is written into a config, the answer is a config or a ConfigError that names what is wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from detkit.config import Config, ConfigError
from detkit.plugins import Registry

SETTINGS = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
FIRST: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "sample/sample/recipes/first.yaml").read_text())
WORDS = st.sampled_from(
    [
        "name",
        "model",
        "base",
        "sample/first",
        "sample/plain",
        "sample/head",
        "depth",
        "1e-3",
        "yes",
        "null",
        "~",
        "",
        "0",
    ]
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
ODD = (
    st.dates()
    | st.binary(max_size=4)
    | st.tuples(st.integers())
    | st.just(10**400)
    | st.sampled_from(["\ud800", {1, 2}])
)
TREES = st.recursive(
    PLAIN | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | PLAIN, inner, max_size=3),
    max_leaves=6,
)


def paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all parts of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(each for key, value in items for each in paths(value, (*path, key)))]


def accepts_or_explains(source: Any, folder: Path, overrides: tuple[str, ...] = ()) -> None:
    try:
        config = Config.load(source, overrides)
    except ConfigError as error:
        assert error.problems
        assert all(problem.message for problem in error.problems)
        assert str(error)
        return
    config.save(folder / "saved.yaml")
    assert Config.load(folder / "saved.yaml") == config


@SETTINGS
@given(path=st.sampled_from(paths(FIRST)[1:]), value=TREES)
@example(path=("model", "backbone"), value={"name": ["sample/plain"]})
@example(path=("train", "steps"), value=float("nan"))
@example(path=("about", "summary"), value=float("inf"))
def test_any_value_anywhere(sample: Registry, tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
    tree = copy.deepcopy(FIRST)
    node: Any = tree
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    accepts_or_explains(tree, tmp_path)


@SETTINGS
@given(path=st.sampled_from(paths(FIRST)[1:]), key=WORDS | st.text(max_size=5) | st.integers())
def test_any_missing_value_and_any_additional_key(
    sample: Registry, tmp_path: Path, path: tuple[Any, ...], key: Any
) -> None:
    tree = copy.deepcopy(FIRST)
    node: Any = tree
    for part in path[:-1]:
        node = node[part]
    del node[path[-1]]
    if isinstance(node, dict):
        node[key] = 1
    accepts_or_explains(tree, tmp_path)


@SETTINGS
@given(
    text=st.text(st.sampled_from("ab:-?!&*#|>%@`{}[],'\"\\ \n\t<=~.0123eE+_yn\x00\x85\u2028"), max_size=40)
    | st.binary()
)
@example(text="? {a: b} : c")
@example(text="<<: [1]")
@example(text="=: =")
@example(text="a: !!binary x")
@example(text="a: !!int x")
@example(text="a: !!set {1, 2}")
@example(text="a: !!omap [1]")
@example(text="[" * 3000)
@example(text="a: 0b_")
@example(text="a: 1:99999999999999999999.5")
@example(text=b"\xff\xfe\x00")
def test_any_text_in_a_file(sample: Registry, tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    accepts_or_explains(path, tmp_path)


@SETTINGS
@given(
    key=st.sampled_from([".".join(map(str, path)) for path in paths(FIRST)[1:]]) | st.text(max_size=10),
    value=st.text(max_size=12) | WORDS,
)
def test_any_change_on_the_command_line(sample: Registry, tmp_path: Path, key: str, value: str) -> None:
    accepts_or_explains("sample/first", tmp_path, (f"{key}={value}",))


@pytest.mark.parametrize("source", ["", ".", "a.yaml", "nothing", "sample/", "\x00", "a" * 300 + ".yaml"])
def test_any_name_of_a_source(sample: Registry, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    accepts_or_explains(source, tmp_path)
