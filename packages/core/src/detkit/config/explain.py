"""What an option means, what it takes, and where its value comes from; and how two configs differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

from detkit.config import plain, schema
from detkit.config.config import Config, experiment
from detkit.config.locate import locate
from detkit.config.problems import join
from detkit.config.sources import Layer
from detkit.plugins import registry


def explain(key: str, config: Config | None = None) -> str:
    """The reference of one option: its type, default, description, the names that may be chosen, and in `config` its
    value and origin.

    Args:
        key: such as "train.steps". Without a config it cannot lead through a component.

    Raises:
        ConfigError: there is no such option.
    """
    place = locate({} if config is None else config.tree, experiment(), key)
    lines = [f"{key}: {schema.describe(place.annotation)}"]
    if place.owner is not None and place.parameter is not None:
        said = schema.documentation(place.owner)[1].get(place.parameter.name)
        lines += [f"  {said}"] if said else []
        if place.parameter.name in schema.WIRED:
            lines.append(f"  filled in where it is left out: {schema.WIRED[place.parameter.name]}")
        elif place.parameter.default is schema.REQUIRED:
            lines.append("  required")
        else:
            lines.append(f"  default: {_inline(place.parameter.default)}")
    if config is not None:
        lines.append(f"  value: {_inline(place.value)}")
        lines.append(f"  from: {_origin(key, config.layers)}")
    for member in schema.alternatives(place.annotation):
        items = schema.sequence_items(member, 1)
        lines += _parts(member, place.value) if items is None else _parts(items[0], None)
    return "\n".join(lines)


def _parts(annotation: Any, value: Any) -> Iterator[str]:
    """Lines about the components that fit into a slot, or the options of a section."""
    kind = schema.slot_kind(annotation)
    if kind:
        width = max(map(len, registry().names(kind)), default=0)
        yield f"  every {kind}:"
        yield from (f"    {each.name:{width}}  {each.summary}".rstrip() for each in registry().components(kind))
    owner = annotation if schema.is_options(annotation) else None
    if kind and isinstance(value, dict):
        owner = registry().load(kind, value["name"])
    if owner is not None:
        head, described = schema.documentation(owner)
        first_line = head.partition("\n")[0]
        yield f"  {value['name'] if kind else 'options'}: {first_line}".rstrip()
        for name, parameter in schema.parameters(owner).items():
            yield f"    {name}: {schema.describe(parameter.annotation)}. {described.get(name, '')}".rstrip()


def _inline(value: Any) -> str:
    if value is None or isinstance(value, str | int | float | list | tuple | Mapping):
        return plain.write(plain.plain(value), inline=True)
    return repr(value)


def _origin(key: str, layers: tuple[Layer, ...]) -> str:
    """The last layer that speaks of a key."""
    for layer in reversed(layers):
        node: Any = layer.tree
        for part in key.split("."):
            if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
                node = node[int(part)]
            elif isinstance(node, dict) and part in node:
                node = node[part]
            else:
                break
        else:
            return layer.label
    return "the default"


def differences(first: Any, second: Any, path: str = "") -> list[str]:
    """Lines "path: old -> new" for all options that differ between two trees."""
    if isinstance(first, dict) and isinstance(second, dict) and first.get("name") == second.get("name"):
        keys = [*first, *(key for key in second if key not in first)]
        absent: Any = NoneType
        parts = ((first.get(key, absent), second.get(key, absent), join(path, key)) for key in keys)
        return [line for part in parts for line in differences(*part)]
    if first == second:
        return []
    old, new = ("(not there)" if value is NoneType else _inline(value) for value in (first, second))
    return [f"{path}: {old} -> {new}"]
