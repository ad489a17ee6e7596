"""Changes to a config from the command line: `train.steps=100`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from detkit.config import plain
from detkit.config.problems import ConfigError, Problem
from detkit.config.sources import Tree, merge, without_alternatives


def from_arguments(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments as overrides `key=value`: `key=value`, `--key=value` and `--key value` are all accepted.

    Raises:
        ConfigError: an argument is none of these.
    """
    found, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        text = argument.removeprefix("--")
        if "=" not in text and text != argument and rest:
            text = f"{text}={rest.pop(0)}"
        if "=" not in text or text.startswith("-"):
            raise ConfigError(
                [Problem("", f"cannot read {argument!r}; to change the config give key=value, as train.steps=100")]
            )
        found.append(text)
    return found


def apply(tree: Tree, overrides: Iterable[str]) -> Tree:
    """A tree with overrides applied in order. The value is YAML; mappings merge as files do; a number in the key counts
    list entries from 0.

    Raises:
        ConfigError: overrides that are not `key=value`, or lead through something that has no parts; lists them all.
    """
    problems: list[Problem] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        try:
            if not equals or not all(parts := key.strip().split(".")):
                raise ConfigError([Problem(override, "not a change; write key=value, as train.steps=100")])
            tree = _set(tree, parts, plain.read(text, override), key)
        except ConfigError as error:
            problems += error.problems if not error.source else [Problem(key, f"{text!r}: {error.problems[0].message}")]
    if problems:
        raise ConfigError(problems, "the command line")
    return tree


def _set(node: Any, parts: list[str], value: Any, key: str) -> Any:
    """A copy of `node` in which what `parts` lead to is `value`."""
    if not parts:
        return merge(node, value)
    first, *rest = parts
    if isinstance(node, list):
        if not first.isdecimal() or int(first) >= len(node):
            raise ConfigError([Problem(key, f"there is no entry {first!r} in a list of {len(node)} (the first is 0)")])
        return [_set(item, rest, value, key) if index == int(first) else item for index, item in enumerate(node)]
    if isinstance(node, str):  # a component without arguments, written as its name alone
        node = {"name": node}
    if node is None:
        node = {}
    if not isinstance(node, dict):
        raise ConfigError([Problem(key, f"{node!r} has no part {first!r}")])
    if first == "name" and not rest:
        return merge(node, {"name": value})
    changed = _set(node.get(first), rest, value, key)
    return {**without_alternatives(node, {first: changed}), first: changed}
