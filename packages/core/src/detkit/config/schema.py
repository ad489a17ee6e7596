"""What a constructor can be given, read from its signature, and what its docstring says about it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from detkit.plugins import KINDS, ComponentError

REQUIRED: Any = inspect.Parameter.empty
"""The default of a parameter that has none."""

WIRED: Mapping[str, str] = {
    "input_shapes": "the shapes of the feature maps of the part that comes before",
    "categories": "the classes of the dataset",
    "num_classes": "the number of classes of the dataset",
    "num_keypoints": "the number of keypoints of the dataset's instances",
    "semantic_categories": "the classes of pixels of the dataset",
    "num_semantic_classes": "the number of classes of pixels of the dataset",
    "class_frequencies": "in how many images each class of the dataset occurs",
}
"""Parameters that the builder fills in by name where a config does not, with what they get."""

PRIMITIVES: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    NoneType: "null",
    Any: "any value",
    object: "any value",
}
_SEQUENCES = (list, tuple, Sequence, Collection, Iterable)
_MAPPINGS = (dict, Mapping)


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a constructor."""

    name: str
    annotation: Any
    default: Any = REQUIRED


@functools.cache
def parameters(target: Callable[..., Any]) -> Mapping[str, Parameter]:
    """The arguments of a class's constructor, or of a function, by name.

    Raises:
        ComponentError: an annotation names something that the module does not import at run time.
    """
    function: Any = target
    if isinstance(target, type):
        function = target.__init__  # type: ignore[misc]  # of this very class
        if function is object.__init__:
            return {}
    is_options = isinstance(target, type) and dataclasses.is_dataclass(target)
    try:
        # a dataclass's fields may be inherited from another module, which only the class's own annotations know
        hints = typing.get_type_hints(target if is_options else function)
    except (NameError, TypeError, AttributeError) as error:
        raise ComponentError(
            f"the signature of {getattr(target, '__qualname__', target)} cannot be read ({error}); the types of its "
            "arguments must be imported at run time, not under TYPE_CHECKING"
        ) from error
    found = {}
    defaults = {field.name: _default(field) for field in dataclasses.fields(target)} if is_options else {}  # type: ignore[arg-type]
    for position, parameter in enumerate(inspect.signature(function).parameters.values()):
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if variadic or (position == 0 and isinstance(target, type)):
            continue
        default = defaults.get(parameter.name, parameter.default)
        found[parameter.name] = Parameter(parameter.name, hints.get(parameter.name, Any), default)
    return found


def required(target: Callable[..., Any]) -> set[str]:
    """The names of the arguments without a default."""
    return {name for name, parameter in parameters(target).items() if parameter.default is REQUIRED}


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return REQUIRED if field.default is dataclasses.MISSING else field.default


def slot_kind(annotation: Any) -> str | None:
    """The kind of component that an annotation admits, None if it is not an interface."""
    kind = getattr(annotation, "kind", None) if isinstance(annotation, type) else None
    return kind if isinstance(kind, str) and kind in KINDS else None


def is_options(annotation: Any) -> bool:
    """Whether an annotation is a dataclass, whose fields are written as a nested mapping without a name."""
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation) and slot_kind(annotation) is None


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else, itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def sequence_items(annotation: Any, length: int) -> list[Any] | None:
    """The annotation of each of `length` entries of a list or tuple type; None for other types. A tuple of another
    length gives a list of its own length."""
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin not in _SEQUENCES:
        return None
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return list(arguments)
    return [arguments[0] if arguments else Any] * length


def is_tuple(annotation: Any) -> bool:
    """Whether Python code of this type expects a tuple, which YAML writes as a list."""
    return (get_origin(annotation) or annotation) is tuple


def mapping_item(annotation: Any) -> Any:
    """The annotation of the values of a mapping type with text keys; None for other types."""
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin not in _MAPPINGS or (arguments and arguments[0] is not str):
        return None
    return arguments[1] if arguments else Any


def has_slot(annotation: Any) -> bool:
    """Whether a value of this type may hold a component."""
    if slot_kind(annotation):
        return True
    if is_options(annotation):
        return any(has_slot(parameter.annotation) for parameter in parameters(annotation).values())
    return any(has_slot(argument) for argument in get_args(annotation) if argument is not Ellipsis)


def can_hold(annotation: Any) -> bool:
    """Whether a config can hold some value of this type."""
    if annotation in PRIMITIVES or get_origin(annotation) is Literal or slot_kind(annotation) or is_options(annotation):
        return True
    members = alternatives(annotation)
    if len(members) > 1:
        return any(can_hold(member) for member in members if member is not NoneType)
    if (items := sequence_items(annotation, 1)) is not None:
        return all(map(can_hold, items))
    item = mapping_item(annotation)
    return item is not None and can_hold(item)


def describe(annotation: Any) -> str:
    """A type in words: "a whole number or null"."""
    if annotation in PRIMITIVES:
        return PRIMITIVES[annotation]
    members = alternatives(annotation)
    if len(members) > 1:
        return " or ".join(describe(member) for member in members)
    if get_origin(annotation) is Literal:
        return ("one of " if len(get_args(annotation)) > 1 else "") + ", ".join(map(repr, get_args(annotation)))
    if kind := slot_kind(annotation):
        return f"a {kind} ({{name: ..., its arguments}})"
    if is_options(annotation):
        return "a mapping of options"
    if (items := sequence_items(annotation, 1)) is not None:
        fixed = get_origin(annotation) is tuple and Ellipsis not in get_args(annotation)
        return (
            f"a list of {len(items)}: {', '.join(map(describe, items))}"
            if fixed
            else f"a list, each {describe(items[0])}"
        )
    if (item := mapping_item(annotation)) is not None:
        return f"a mapping, each value {describe(item)}"
    return f"a {getattr(annotation, '__name__', annotation)}, which a config cannot hold"


def documentation(target: Any) -> tuple[str, dict[str, str]]:
    """A class's docstring as (text before `Args:`, argument -> text)."""
    text = inspect.getdoc(target) or ""
    head, _, section = text.partition("\nArgs:\n")
    described: dict[str, str] = {}
    for line in textwrap.dedent(section.split("\n\n")[0]).splitlines():
        if match := re.match(r"(\w+(?:, \w+)*): ?(.*)", line):
            names = match[1].split(", ")
            described.update(dict.fromkeys(names, match[2]))
        elif described:
            described.update({name: f"{described[name]} {line.strip()}" for name in names})
    return head.strip(), described
