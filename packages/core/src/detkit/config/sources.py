"""Where configs come from: recipes of plugins, files, mappings; and how one is based on another."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detkit.config import plain
from detkit.config.problems import ConfigError, Problem
from detkit.plugins import ComponentError, registry

Tree = dict[str, Any]
_OWN = ("summary", "published", "published by", "model id")
"""Keys of `about` that speak of one file alone: what is based on a published recipe has not reproduced its result."""


ALTERNATIVES = {"steps": "epochs", "epochs": "steps"}
"""Options of which a config has one or the other."""


@dataclass(frozen=True)
class Layer:
    """One file (or mapping) of those that make up a config, `label` being its name for people."""

    label: str
    tree: Tree


def layers(source: str | Path | Mapping[str, Any]) -> list[Layer]:
    """The source and what it is based on, directly or not, the most basic first.

    Args:
        source: a recipe's name, a YAML file (or a folder that holds config.yaml), or a mapping.

    Raises:
        ConfigError: it does not exist, is not a YAML mapping, or is based on itself.
    """
    if isinstance(source, Mapping):
        file, found = None, Layer("the given mapping", _mapping(plain.plain(source), "the given mapping"))
    else:
        file = _file(source, None)
        found = Layer(str(source), _read(file, str(source)))
    chain, files = [found], [file]
    while (base := chain[0].tree.get("base")) is not None:
        label = chain[0].label
        if not isinstance(base, str):
            raise ConfigError(
                [Problem("base", f"got {base!r}; wanted a recipe's name or a path to a YAML file")], label
            )
        try:
            file = _file(base, files[0])
        except ConfigError as error:
            raise ConfigError([Problem("base", problem.message) for problem in error.problems], label) from error
        if file in files:
            circle = " -> ".join([*(layer.label for layer in reversed(chain)), base])
            raise ConfigError([Problem("base", f"the config is based on itself: {circle}")], label)
        chain.insert(0, Layer(base, _read(file, base)))
        files.insert(0, file)
    return chain


def merge_layers(chain: list[Layer]) -> Tree:
    """One tree from a chain of layers; later ones win. What `about` says of a result is the last layer's own."""
    tree: Tree = {}
    for layer in chain:
        if isinstance(about := tree.get("about"), dict):
            tree["about"] = {key: value for key, value in about.items() if key not in _OWN}
        tree = merge(tree, {key: value for key, value in layer.tree.items() if key != "base"})
    return tree


def merge(base: Any, over: Any) -> Any:
    """`over` on top of `base`: mappings merge deeply, but one whose `name` changes is replaced whole, as is everything
    else; an option takes the place of its alternative. The text "resnet" counts as {name: resnet} where it meets a
    mapping."""
    if isinstance(base, Mapping) and "name" in base and isinstance(over, str):
        over = {"name": over}
    elif isinstance(base, str) and isinstance(over, Mapping):
        base = {"name": base}
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    if "name" in base and over.get("name", base["name"]) != base["name"]:
        return dict(over)
    base = without_alternatives(base, over)
    return {**base, **{key: merge(base[key], value) if key in base else value for key, value in over.items()}}


def without_alternatives(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """`base` without the options whose alternative `over` gives: to say `epochs` takes back the `steps` said before."""
    taken_back = {ALTERNATIVES[key] for key, value in over.items() if key in ALTERNATIVES and value is not None}
    return {key: value for key, value in base.items() if key not in taken_back or key in over}


def _file(source: str | Path, user: Path | None) -> Path:
    """The file of a source; relative paths start from the folder of the file `user` that names it, if there is one."""
    path = Path(source)
    if user is not None and not path.is_absolute():
        path = user.parent / path
    # os.path, not pathlib, for whatever people type: a name that is too long is no file, not an error
    if isinstance(source, Path) or path.suffix in (".yaml", ".yml") or os.path.isfile(path / "config.yaml"):
        file = path / "config.yaml" if os.path.isdir(path) else path
        if not os.path.isfile(file):
            raise ConfigError([Problem("", f"there is no config file {file}")])
        return file.resolve()
    return recipe_file(source)


def recipe_file(name: str) -> Path:
    """The file of a recipe.

    Raises:
        ConfigError: no plugin provides it, or its plugin lacks the file.
    """
    try:
        target = registry().find("recipe", name).target
    except ComponentError as error:
        raise ConfigError([Problem("", str(error))]) from error
    package, _, inside = target.partition(":")
    found = importlib.util.find_spec(package)
    folder = Path(found.origin).parent if found and found.origin else Path(package)
    if not (folder / inside).is_file():
        [plugin] = registry().providers("recipe", name)
        raise ConfigError([Problem("", f"recipe {name!r} of plugin {plugin.name} has no file {folder / inside}")])
    return folder / inside


def _read(file: Path, label: str) -> Tree:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigError([Problem("", f"cannot read {file}: {error.strerror}")]) from error
    return _mapping(plain.read(text, label), label)


def _mapping(value: Any, label: str) -> Tree:
    if not isinstance(value, dict):
        raise ConfigError(
            [Problem("", f"got {'nothing' if value is None else repr(value)[:60]}; wanted a mapping")], label
        )
    return value
