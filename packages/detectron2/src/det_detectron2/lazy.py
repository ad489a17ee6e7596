"""Detectron2's python ("lazy") configs, in the YAML that its training writes: an entry with `_target_` is a call of
what that names, with the other entries as arguments.

Nothing that a file names is imported. A table says of each target which keys of a YAML config mean the same as its
arguments; from there on, both kinds of config take the same way. So what has no counterpart may be named by its key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import yaml

from det_detectron2 import mapping

Keys = dict[str, Any]
"""Dotted keys of Detectron2's YAML configs -> values."""

_REQUIRED = object()
_PYTHON = "tag:yaml.org,2002:python/"


class LazyLoader(yaml.SafeLoader):
    """Plain YAML, and the python tags that lazy configs have, as data: names as text, objects as mappings."""


def _partial(loader: LazyLoader, node: yaml.MappingNode) -> str:
    """A partial call, written out as python does: "functools.partial(torch.nn.LayerNorm, eps=1e-06)"."""
    function, positional, named, _ = loader.construct_mapping(node, deep=True)["state"]
    arguments = [repr(value) for value in positional] + [f"{name}={value!r}" for name, value in (named or {}).items()]
    return f"functools.partial({', '.join([str(function), *arguments])})"


LazyLoader.add_multi_constructor(
    _PYTHON + "object:", lambda loader, name, node: {"_target_": name, **loader.construct_mapping(node, deep=True)}
)
LazyLoader.add_multi_constructor(_PYTHON + "name:", lambda loader, name, node: name)
LazyLoader.add_constructor(_PYTHON + "object/apply:functools.partial", _partial)
LazyLoader.add_constructor(
    _PYTHON + "tuple", lambda loader, node: loader.construct_sequence(cast(yaml.SequenceNode, node), deep=True)
)


def is_lazy(tree: Any) -> bool:
    """Whether a file's content is a lazy config."""
    return isinstance(tree, dict) and isinstance(tree.get("model"), dict) and "_target_" in tree["model"]


def short_name(target: str) -> str:
    """What Detectron2's own classes and functions are known by, wherever they are imported from: the part of a dotted
    name from the class on. Others keep their whole name."""
    package, *parts = target.split(".")
    if package != "detectron2":
        return target
    while len(parts) > 1 and parts[0].islower():
        parts.pop(0)
    return ".".join(parts)


def resolved(tree: Any) -> Any:
    """A config in which text such as "${..num_classes}" is replaced by what it points to; a dot more is a level up."""
    return _resolved(tree, [tree])


def _resolved(value: Any, around: list[Any]) -> Any:
    """`around` are the containers of `value`, outermost first."""
    if isinstance(value, dict):
        return {key: _resolved(entry, [*around, value]) for key, entry in value.items()}
    if isinstance(value, list):
        return [_resolved(entry, [*around, value]) for entry in value]
    if isinstance(value, str) and value.startswith("${") and value.endswith("}"):
        path = value[2:-1]
        name = path.lstrip(".")
        dots = len(path) - len(name)
        scope = around[: max(0, len(around) - dots + 1)] if dots else around[:1]
        for part in name.split("."):
            inner = scope[-1] if scope else None
            if not isinstance(inner, dict) or part not in inner:
                return value  # for whoever uses it to refuse
            scope = [*scope, inner[part]]
        return _resolved(scope[-1], scope[:-1])
    return value


class Call:
    """An entry with a `_target_`: its arguments are taken one by one, and `Reader.problems` tells which nobody took."""

    def __init__(self, reader: Reader, path: str, entries: Mapping[str, Any]) -> None:
        self.path = path
        self.name = short_name(str(entries["_target_"]))
        self._reader = reader
        self._arguments = {name: value for name, value in entries.items() if name != "_target_"}
        self._left = set(self._arguments)
        reader.calls.append(self)

    def take(self, argument: str, default: Any = _REQUIRED) -> Any:
        """The value of an argument, or its default there.

        Raises:
            ValueError: it has no default and is not given.
        """
        self._left.discard(argument)
        value = self._arguments.get(argument, default)
        if value is _REQUIRED:
            raise ValueError(f"the config has no {self.path}.{argument}")
        return value

    def expect(self, argument: str, default: Any, *others: Any) -> Any:
        """The value of an argument that can only be followed where it is its default or one of `others`."""
        value = self.take(argument, default)
        if value not in (default, *others):
            self.refuse(argument, value, " or ".join(repr(each) for each in (default, *others)))
        return value

    def refuse(self, argument: str, value: Any, wanted: str) -> None:
        """Note that the value of an argument cannot be followed; only what is wanted can."""
        self._reader.found.append(f"{self.path}.{argument} is {value!r}; only {wanted} has a counterpart")

    def follows(self, *arguments: str) -> None:
        """Leave out arguments that follow from other entries: if they did not, arrays would not fit."""
        self._left.difference_update(arguments)

    def child(self, argument: str, *names: str) -> Call:
        """The call that is an argument, of one of these targets.

        Raises:
            ValueError: it is of another, or none.
        """
        return self._reader.call(f"{self.path}.{argument}", self.take(argument), names)

    def children(self, argument: str, *names: str) -> list[Call]:
        """The calls that are a list, each of one of these targets.

        Raises:
            ValueError: there is none, or one is of another.
        """
        entries = self.take(argument)
        if not isinstance(entries, list) or not entries:
            raise ValueError(f"{self.path}.{argument} is {entries!r}; a list of calls is needed")
        path = f"{self.path}.{argument}"
        return [self._reader.call(f"{path}[{index}]", entry, names) for index, entry in enumerate(entries)]

    def keys(self, argument: str) -> Keys:
        """What the call that is an argument means, as the table of targets says."""
        return self._reader.keys(f"{self.path}.{argument}", self.take(argument))

    def same(self, argument: str, values: Sequence[Any], default: Any) -> Any:
        """The value that all of a list have; `default` for an empty one."""
        if any(value != values[0] for value in values):
            self.refuse(argument, list(values), "one value for all")
        return values[0] if values else default

    def norm(self, argument: str, default: str) -> str:
        """A norm's name, as YAML configs have it."""
        name = self.take(argument, default) or ""
        if name in ("nnSyncBN", "naiveSyncBN", "naiveSyncBN_N"):
            return "SyncBN"  # they differ in how processes are synchronised, not in what is computed
        if isinstance(name, str) and "<lambda>" in name:
            return (
                "SyncBN"  # what the functions in Detectron2's configs make; another norm has other arrays, which fail
            )
        if not isinstance(name, str) or not name.isalnum():
            if name:
                self.refuse(argument, name, "the name of a norm, such as SyncBN, written in its place")
            return ""
        return name

    def left(self) -> list[str]:
        """The arguments that nobody took."""
        return [f"{self.path}.{name} (= {self._arguments[name]!r})" for name in sorted(self._left)]


class Reader:
    """Reads calls by a table of targets.

    Args:
        targets: short names of targets -> what a call of it means in keys.
    """

    def __init__(self, targets: Mapping[str, Callable[[Call], Keys]]) -> None:
        self.targets = targets
        self.calls: list[Call] = []
        self.found: list[str] = []

    def call(self, path: str, entries: Any, names: Sequence[str]) -> Call:
        """A call of one of the targets with these names.

        Raises:
            ValueError: it is of another, or no call.
        """
        target = entries.get("_target_") if isinstance(entries, dict) else None
        if not isinstance(target, str) or short_name(target) not in names:
            raise _refusal(path, entries, names)
        return Call(self, path, entries)

    def keys(self, path: str, entries: Any) -> Keys:
        """What a call means, by the table or by the mapping of a plugin."""
        target = entries.get("_target_") if isinstance(entries, dict) else None
        meaning = self._meaning(short_name(target)) if isinstance(target, str) else None
        if meaning is None:
            raise _refusal(path, entries, tuple(self.targets))
        return meaning(Call(self, path, entries))

    def _meaning(self, name: str) -> Callable[[Call], Keys] | None:
        if name in self.targets:
            return self.targets[name]
        found = mapping.find(name.rpartition(".")[2])
        return found.target if found else None

    def problems(self) -> list[str]:
        """What cannot be converted: values without counterpart, and arguments that nobody took."""
        return self.found + [f"{entry} has no counterpart" for call in self.calls for entry in call.left()]


def _refusal(path: str, entries: Any, names: Sequence[str]) -> ValueError:
    target = entries.get("_target_") if isinstance(entries, dict) else None
    known = mapping.advice(target.rpartition(".")[2]) if isinstance(target, str) else ""
    what = f"calls {target!r}" if isinstance(target, str) else f"is {entries!r}"
    return ValueError(f"{path} {what}; there is a mapping for {', '.join(names)}{known}")
