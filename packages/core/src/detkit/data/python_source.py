"""Data that Python code hands over: datasets, functions that make them, Detectron2's lists of dicts."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detkit.data.source import PYTHON_NAME, Openable, find_splits
from detkit.interfaces import Dataset
from detkit.plugins import registry
from detkit.structures.categories import Categories

RECORDS = "records"
"""The dataset component that reads lists of dicts."""


@dataclass(frozen=True)
class Given:
    """A split that is open already."""

    dataset: Dataset

    def open(self) -> Dataset:
        """The dataset itself."""
        return self.dataset


@dataclass(frozen=True)
class Made:
    """A split that a function makes when it is opened."""

    function: Callable[[], Any]
    categories: Categories | Sequence[str] | None

    def open(self) -> Dataset:
        """Call the function.

        Raises:
            ValueError: it returns neither a dataset nor a list of dicts.
        """
        return _split(self.function(), self.categories).open()


def python_splits(data: Any, categories: Categories | Sequence[str] | None = None) -> dict[str, Openable]:
    """The splits of anything that `detkit.train` takes as data.

    Args:
        data: a path, as on the command line; a `Dataset`, which is the split "train"; a list of dicts as Detectron2's
            datasets are (see `det_datasets.records`); a function without arguments that returns one of these, or its
            name, "module:function"; or a mapping from the names of splits to any of them.
        categories: the classes of lists of dicts, in the order of their `category_id`.

    Raises:
        ValueError: it is something else, or there is no such function.
    """
    if isinstance(data, str | Path) and not _names_function(data):
        return find_splits(data)
    if isinstance(data, str):
        data = _function(data)
    if callable(data) and not isinstance(data, Dataset):
        found = data()
        if callable(found) or isinstance(found, str):
            raise ValueError(f"{name_of(data)} returned {found!r}; a dataset, a list of dicts or a mapping is needed")
        return python_splits(found, categories)
    if isinstance(data, Mapping):
        if not data or not all(isinstance(name, str) for name in data):
            raise ValueError('a mapping of data has the names of splits as its keys: {"train": ..., "val": ...}')
        return {name: _split(entry, categories) for name, entry in data.items()}
    return {"train": _split(data, categories)}


def name_of(data: Any) -> str:
    """What a run records of its data: the path, or what the Python object is called."""
    if isinstance(data, str | Path):
        return str(data)
    if callable(data) and not isinstance(data, Dataset):
        return f"{getattr(data, '__module__', '?')}:{getattr(data, '__qualname__', type(data).__name__)}"
    if isinstance(data, Mapping):
        return f"given in Python: {', '.join(map(str, data))}"
    return f"given in Python: {type(data).__name__}"


def _names_function(data: str | Path) -> bool:
    return isinstance(data, str) and PYTHON_NAME.fullmatch(data) is not None and not Path(data).exists()


def _function(name: str) -> Callable[[], Any]:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and lacks something itself
        raise ValueError(f"data={name}: there is no module {error.name!r}") from None
    except AttributeError:
        raise ValueError(f"data={name}: the module {module} has no function {attribute!r}") from None
    if not callable(function):
        raise ValueError(f"data={name}: that is a {type(function).__name__}; a function is needed")
    made: Callable[[], Any] = function
    return made


def _split(data: Any, categories: Categories | Sequence[str] | None) -> Openable:
    if isinstance(data, Dataset):
        return Given(data)
    if isinstance(data, str) and _names_function(data):
        data = _function(data)
    if callable(data):
        return Made(data, categories)
    if isinstance(data, Sequence) and not isinstance(data, str) and all(isinstance(entry, Mapping) for entry in data):
        if categories is None:
            raise ValueError(
                "a list of dicts does not say what its classes are called; give `categories`, their names in the order "
                "of `category_id`"
            )
        if RECORDS not in registry().names("dataset"):
            raise ValueError("no reader of lists of dicts is installed; pip install det-datasets")
        return Given(registry().load("dataset", RECORDS)(records=data, categories=categories))
    raise ValueError(
        f"got {type(data).__name__} as data; a path, a Dataset, a list of dicts, a function that returns one of them, "
        "or a mapping from names of splits to them is needed"
    )
