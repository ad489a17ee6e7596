from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import detkit
from detkit.config import Config
from detkit.data.python_source import name_of, python_splits
from detkit.engine.train import train
from detkit.plugins import Registry, use_registry
from detkit.testing.sampler import Labelled

Configure = Callable[..., Config]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("my_data")
    module.load = lambda: {"train": Labelled(), "val": Labelled([[0]])}  # type: ignore[attr-defined]
    module.number = 3  # type: ignore[attr-defined]
    module.again = lambda: "my_data:load"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_data", module)
    return module


def test_a_dataset_is_the_split_train() -> None:
    dataset = Labelled()
    assert python_splits(dataset)["train"].open() is dataset


def test_functions_are_called_by_name_or_as_they_are(module: types.ModuleType) -> None:
    for data in ("my_data:load", module.load):
        splits = python_splits(data)
        assert {name: len(split.open()) for name, split in splits.items()} == {"train": 10, "val": 1}


def test_splits_may_be_functions_that_are_called_when_they_are_opened() -> None:
    calls = []
    splits = python_splits({"train": lambda: calls.append(1) or Labelled(), "val": Labelled()})
    assert calls == []
    splits["train"].open()
    assert calls == [1]


def test_paths_are_what_they_are_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        python_splits(tmp_path / "nowhere")


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("no_such.module:load", "there is no module 'no_such'"),
        ("my_data:save", "the module my_data has no function 'save'"),
        ("my_data:number", "that is a int; a function is needed"),
        ("my_data:again", "returned 'my_data:load'; a dataset"),
        (7, "got int as data"),
        ({"train": 7}, "got int as data"),
        ({}, "names of splits as its keys"),
        ([{"file_name": "a.jpg"}], "give `categories`"),
    ],
)
def test_what_is_no_data_is_explained(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        python_splits(data)


def test_lists_of_dicts_need_their_reader() -> None:
    with use_registry(Registry()), pytest.raises(ValueError, match="pip install det-datasets"):
        python_splits([{"file_name": "a.jpg"}], ["a"])


def test_data_is_called_by_name_in_the_config() -> None:
    names = [name_of(data) for data in ("here", Path("there"), python_splits, {"train": 1, "val": 2}, Labelled(), [])]
    assert names == [
        "here",
        "there",
        "detkit.data.python_source:python_splits",
        "given in Python: train, val",
        "given in Python: Labelled",
        "given in Python: list",
    ]


def test_a_model_learns_from_data_of_python(toy_config: Configure, tmp_path: Path) -> None:
    from toy_engine.dataset import ToyDataset

    data = {"train": ToyDataset(), "val": ToyDataset(images=3, seed=1)}
    config = toy_config(steps=2, eval_every=2)
    run = detkit.train(config.tree, tmp_path / "run", data=data)
    assert run.metrics["bbox"]["images"] == 3
    assert Config.load(tmp_path / "run").get("data") == "given in Python: train, val"
    assert train(Config.load(tmp_path / "run"), tmp_path / "run", data=data, resume=True).step == 2
    with pytest.raises(ValueError, match="there is no data at given in Python"):
        train(Config.load(tmp_path / "run"), tmp_path / "run", resume=True)
