"""Following a path such as `model.backbone.depth` through a config and its constructors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detkit.config import schema
from detkit.config.check import matching
from detkit.config.problems import ConfigError, Problem, join, suggest
from detkit.plugins import ComponentError, registry


@dataclass(frozen=True, slots=True)
class Place:
    """What the constructors say about a path.

    annotation: the type of what is there.
    owner: the class whose constructor has this argument; None inside a list or a free mapping.
    parameter: that argument.
    value: what the config has there; None if it is left out.
    """

    annotation: Any
    owner: Callable[..., Any] | None = None
    parameter: schema.Parameter | None = None
    value: Any = None


def locate(tree: Any, root: Any, path: str) -> Place:
    """Follow `path` from a tree of type `root`.

    Raises:
        ConfigError: there is no such place.
    """
    place, done = Place(root, value=tree), ""
    for part in path.split("."):
        place = _step(place, part, done)
        done = join(done, part)
    return place


def _step(place: Place, part: str, path: str) -> Place:
    value = place.value
    annotation = matching(value, place.annotation)
    if value is None:
        annotation = next(
            (each for each in schema.alternatives(place.annotation) if each is not type(None)), annotation
        )
    owner: Any = None
    if kind := schema.slot_kind(annotation):
        owner = _chosen(kind, value, path)
        if part == "name":
            return Place(str, owner, value=value["name"])
    elif schema.is_options(annotation):
        owner = annotation
    if owner is not None:
        known = schema.parameters(owner)
        if part not in known:
            raise ConfigError([Problem(join(path, part), f"there is no such option{suggest(part, known)}")])
        inside = value.get(part) if isinstance(value, dict) else None
        return Place(known[part].annotation, owner, known[part], inside)
    if isinstance(value, list) and (items := schema.sequence_items(annotation, len(value))) is not None:
        if part.isdecimal() and int(part) < len(value):
            return Place(items[int(part)], value=value[int(part)])
        raise ConfigError([Problem(join(path, part), f"the list has {len(value)} entries, counted from 0")])
    if (item := schema.mapping_item(annotation)) is not None:
        return Place(item, value=value.get(part) if isinstance(value, dict) else None)
    raise ConfigError([Problem(join(path, part), f"{path} is {schema.describe(annotation)}; it has no parts")])


def _chosen(kind: str, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        names = ", ".join(registry().names(kind))
        raise ConfigError([Problem(path, f"what it takes depends on the {kind} chosen there; there are: {names}")])
    try:
        return registry().load(kind, value["name"])
    except ComponentError as error:
        raise ConfigError([Problem(path, str(error))]) from error
