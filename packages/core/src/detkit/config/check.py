"""Checking a tree against the constructors it names, with every default filled in."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from detkit.config import schema
from detkit.config.problems import ConfigError, Problem, join, suggest
from detkit.config.sources import merge
from detkit.plugins import ComponentError, registry

_NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d+)?")
"""Numbers that YAML 1.1 takes for text: 1e-3."""


class Checker:
    """Resolves values and collects `problems`. If there are none, the result is complete and of the right types.

    Args:
        wired: names of parameters that the builder will fill in.
    """

    def __init__(self, wired: Collection[str] = schema.WIRED) -> None:
        self.wired = wired
        self.problems: list[Problem] = []

    def value(self, value: Any, annotation: Any, path: str) -> Any:
        """The value as a config of this type holds it: defaults filled in, numbers as numbers."""
        members = schema.alternatives(annotation)
        if len(members) > 1:
            return self._any_of(value, members, annotation, path)
        if schema.slot_kind(annotation):
            return self._component(value, annotation, path)
        if schema.is_options(annotation):
            return self._options(value, annotation, path)
        if isinstance(value, list) and (items := schema.sequence_items(annotation, len(value))) is not None:
            if len(items) == len(value):
                pairs = enumerate(zip(value, items, strict=True))
                return [self.value(entry, item, join(path, index)) for index, (entry, item) in pairs]
        elif isinstance(value, dict) and (item := schema.mapping_item(annotation)) is not None:
            return {key: self.value(entry, item, join(path, key)) for key, entry in value.items()}
        elif _is(value, annotation):
            return value
        elif annotation is float and (number := _number(value)) is not None:
            return number
        self._report(path, f"got {_shown(value)}; wanted {schema.describe(annotation)}")
        return None

    def arguments(self, given: Mapping[str, Any], target: Callable[..., Any], path: str, owner: str) -> dict[str, Any]:
        """The arguments for a constructor; `owner` is what people call it."""
        try:
            known = schema.parameters(target)
        except ComponentError as error:
            self._report(path, str(error))
            return {}
        for key in given:
            if key not in known:
                self._report(join(path, key), f"{owner} has no such option{suggest(key, known)}")
        resolved = {}
        for name, parameter in known.items():
            if name in given:
                entry = given[name]
                default = self._default(parameter)
                if isinstance(entry, dict) and isinstance(default, dict):
                    entry = merge(default, entry)
                resolved[name] = self.value(entry, parameter.annotation, join(path, name))
            elif name in self.wired:
                continue
            elif parameter.default is schema.REQUIRED:
                self._report(join(path, name), f"is missing; wanted {schema.describe(parameter.annotation)}")
            elif (default := self._default(parameter)) is not schema.REQUIRED:
                resolved[name] = default
        return resolved

    def _report(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def _default(self, parameter: schema.Parameter) -> Any:
        """A parameter's default as a config holds it; REQUIRED where there is none or a config cannot hold it."""
        if parameter.default is schema.REQUIRED:
            return schema.REQUIRED
        attempt = Checker(self.wired)
        resolved = attempt.value(_plain_default(parameter.default), parameter.annotation, "")
        return schema.REQUIRED if attempt.problems else resolved

    def _any_of(self, value: Any, members: tuple[Any, ...], annotation: Any, path: str) -> Any:
        exact = [member for member in members if _is(value, member)]
        attempts = []
        for member in exact or members:
            attempt = Checker(self.wired)
            resolved = attempt.value(value, member, path)
            if not attempt.problems:
                return resolved
            attempts.append(attempt)
        # What was meant as the one member that takes such things: say what is wrong inside it.
        structured = isinstance(value, dict | list)
        meant = [
            attempt
            for attempt, member in zip(attempts, members, strict=False)
            if (structured and not _is_primitive(member)) or (isinstance(value, str) and schema.slot_kind(member))
        ]
        if len(meant) == 1:
            self.problems += meant[0].problems
        else:
            self._report(path, f"got {_shown(value)}; wanted {schema.describe(annotation)}")
        return None

    def _component(self, value: Any, interface: type, path: str) -> Any:
        kind = schema.slot_kind(interface)
        assert kind is not None
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict):
            self._report(path, f"got {_shown(value)}; wanted {schema.describe(interface)}")
            return None
        name = value.get("name")
        if not isinstance(name, str):
            names = ", ".join(registry().names(kind)) or "none is installed"
            self._report(join(path, "name"), f"got {_shown(name)}; wanted the name of a {kind}: {names}")
            return None
        try:
            value = registry().expand(kind, value)
            name = value["name"]
            target = registry().load(kind, name)
        except ComponentError as error:
            self._report(join(path, "name"), str(error))
            return None
        if isinstance(target, type) and not issubclass(target, interface):
            self._report(join(path, "name"), f"{kind} {name!r} is not a {interface.__name__}")
            return None
        given = {key: entry for key, entry in value.items() if key != "name"}
        return {"name": name, **self.arguments(given, target, path, f"{kind} {name!r}")}

    def _options(self, value: Any, options: type, path: str) -> Any:
        if not isinstance(value, dict):
            self._report(path, f"got {_shown(value)}; wanted {schema.describe(options)}")
            return None
        before = len(self.problems)
        resolved = self.arguments(value, options, path, repr(path.rpartition(".")[2]) if path else "a config")
        # Options are cheap to make, and know which values go together; with components inside they are made later.
        if (
            len(self.problems) == before
            and resolved.keys() >= schema.required(options)
            and not schema.has_slot(options)
        ):
            from detkit.config.building import construct

            try:
                construct(resolved, options, path, {})
            except ConfigError as error:
                self.problems += error.problems
        return resolved


def matching(value: Any, annotation: Any) -> Any:
    """The member of a union that a checked value belongs to; of anything else, itself."""
    members = schema.alternatives(annotation)
    if len(members) == 1:
        return annotation
    for member in sorted(members, key=lambda member: not _is(value, member)):
        attempt = Checker()
        attempt.value(value, member, "")
        if not attempt.problems:
            return member
    return members[0]


def _is_primitive(annotation: Any) -> bool:
    return annotation in schema.PRIMITIVES or get_origin(annotation) is Literal


def _is(value: Any, annotation: Any) -> bool:
    """Whether a plain value is of a primitive type as it stands; true and false are no numbers."""
    if annotation in (Any, object):
        return True
    if get_origin(annotation) is Literal:
        return any(value == member and type(value) is type(member) for member in get_args(annotation))
    if annotation is Path:
        return isinstance(value, str)
    return annotation in schema.PRIMITIVES and type(value) is annotation


def _number(value: Any) -> float | None:
    if type(value) is int:
        return float(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return None


def _plain_default(value: Any) -> Any:
    """A default written in Python as a config would hold it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain_default(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init
        }
    if isinstance(value, Mapping):
        return {key: _plain_default(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_default(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if isinstance(value, dict):
        return "a mapping"
    return f"a list of {len(value)}" if isinstance(value, list) else repr(value)
