"""A whole config: resolved, checked, saved, and built from."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from detkit.atomic import write_whole
from detkit.config import overrides as overriding
from detkit.config import plain
from detkit.config.building import construct
from detkit.config.check import Checker
from detkit.config.locate import locate
from detkit.config.problems import ConfigError, Problem, suggest
from detkit.config.sources import Layer, Tree, layers, merge_layers
from detkit.plugins import check_config, registry

_HEADER = "# A resolved config: every default filled in. `plugins` are those that were installed when it was written.\n"


class Config:
    """What to train and how. `Config.load` makes one.

    Attributes:
        tree: plain nested values, every default filled in.
        layers: the files, recipes and command line it came from, the most basic first.
        recorded: distribution -> version of the plugins it was written with, if it was saved by a run.
    """

    def __init__(self, tree: Tree, layers: Iterable[Layer] = (), recorded: Mapping[str, str] | None = None) -> None:
        self.tree = tree
        self.layers = tuple(layers)
        self.recorded = dict(recorded or {})

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> Config:
        """Read a config, resolve what it is based on, apply changes, and check all of it.

        Args:
            source: a recipe's name, a YAML file (or a run's folder), or a mapping.
            overrides: changes such as "train.steps=100".

        Raises:
            ConfigError: lists everything that is wrong.
        """
        chain, changes = layers(source), list(overrides)
        tree = overriding.apply(merge_layers(chain), changes)
        recorded = tree.pop("plugins", None)
        chain.append(Layer("the command line", overriding.apply({}, changes)))
        checker = Checker()
        recorded = checker.value(recorded or {}, dict[str, str], "plugins") or {}
        checker.problems += [] if "requires" not in tree else _unmet(tree["requires"])
        resolved = checker.value(tree, experiment(), "")
        if checker.problems:
            absent = sorted(recorded.keys() - _loaded().keys())
            hint = (
                [Problem("plugins", f"it was written with {', '.join(absent)}, not installed here")] if absent else []
            )
            raise ConfigError([*checker.problems, *hint], chain[-2].label)
        config = cls(resolved, chain, recorded)
        if problems := check_config(config):
            raise ConfigError(problems, chain[-2].label)
        return config

    def get(self, path: str) -> Any:
        """The value at a path such as "train.steps".

        Raises:
            ConfigError: there is none.
        """
        value: Any = self.tree
        for part in path.split("."):
            if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            elif isinstance(value, dict) and part in value:
                value = value[part]
            else:
                known = value if isinstance(value, dict) else ()
                raise ConfigError([Problem(path, f"the config has no {part!r} there{suggest(part, known)}")])
        return value

    def build(self, path: str, **wiring: Any) -> Any:
        """Build what is at a path: `config.build("model", categories=categories)`. See `detkit.config.build`.

        Raises:
            ConfigError: there is nothing at the path, or a component refuses its arguments.
        """
        return construct(self.get(path), locate(self.tree, experiment(), path).annotation, path, wiring)

    def save(self, path: Path) -> None:
        """Write the tree as YAML, with the versions of all plugins. `Config.load(path)` gives an equal config."""
        write_whole(path, _HEADER + plain.write({**self.tree, "plugins": _loaded()}))

    def __eq__(self, other: object) -> bool:
        return self.tree == other.tree if isinstance(other, Config) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # its tree can be changed

    def __repr__(self) -> str:
        return f"Config({plain.write(self.tree)})"


def experiment() -> type:
    """The schema of a whole config. It knows all interfaces and with them torch, so it is imported late and by name."""
    found: type = importlib.import_module("detkit.experiment").Experiment
    return found


def _loaded() -> dict[str, str]:
    return {info.name: info.version for info in registry().plugins() if info.state == "loaded"}


def _unmet(requires: Any) -> list[Problem]:
    """Requirements that the installed distributions do not meet. What is not text is reported elsewhere."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import InvalidRequirement, Requirement

    problems = []
    for index, text in enumerate(requires if isinstance(requires, list) else []):
        path = f"requires.{index}"
        try:
            wanted = Requirement(text) if isinstance(text, str) else None
        except InvalidRequirement:
            problems.append(Problem(path, f"{text!r} is not a requirement; write it as in 'det-heads>=0.1'"))
            continue
        if wanted is None:
            continue
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            problems.append(Problem(path, f"{text} is not installed: pip install '{text}'"))
            continue
        if not wanted.specifier.contains(installed, prereleases=True):
            problems.append(Problem(path, f"{text} is needed, {installed} is installed: pip install -U '{text}'"))
    return problems
