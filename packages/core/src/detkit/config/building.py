"""Building components from checked trees, handing down what nobody should have to write twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from detkit.config import schema
from detkit.config.check import Checker, matching
from detkit.config.plain import plain
from detkit.config.problems import ConfigError, Problem, join
from detkit.plugins import registry

T = TypeVar("T")


def build(spec: Mapping[str, Any] | str, interface: Callable[..., T], **wiring: Any) -> T:
    """Build a component from its mapping: `build({"name": "resnet", "depth": 50}, Backbone)`.

    Args:
        spec: the component's name, and its arguments.
        interface: the class it must be of, such as `Backbone`; its kind says where the name is looked up. (Typed as a
            callable because interfaces are abstract, and mypy takes no abstract class for `type[T]`.)
        wiring: values for all parameters with these names that `spec` does not give, at any depth: `categories`,
            `input_shapes`. `num_classes` follows from `categories`. A function without arguments is called for the
            value where some part takes it.

    Raises:
        ConfigError: the spec is wrong, or a component refuses its arguments.
    """
    checker = Checker({*schema.WIRED, *wiring})
    resolved = checker.value(plain(spec), interface, "")
    if checker.problems:
        raise ConfigError(checker.problems)
    built: T = construct(resolved, interface, "", wiring)
    return built


def construct(value: Any, annotation: Any, path: str, wiring: Mapping[str, Any]) -> Any:
    """The Python object of a checked value. Parts are built in the order of their constructor's arguments;
    `input_shapes` is the `output_shapes` of the nearest part built before.

    Raises:
        ConfigError: a component refuses its arguments, or nothing is there to be wired.
    """
    wiring = {name: entry for name, entry in wiring.items() if entry is not None}
    if "categories" in wiring:
        wiring = {"num_classes": len(wiring["categories"]), **wiring}
        if wiring["categories"].keypoints:
            wiring = {"num_keypoints": len(wiring["categories"].keypoints), **wiring}
    if "semantic_categories" in wiring:
        wiring = {"num_semantic_classes": len(wiring["semantic_categories"]), **wiring}
    return _construct(value, annotation, path, wiring)


def _construct(value: Any, annotation: Any, path: str, wiring: Mapping[str, Any]) -> Any:
    annotation = matching(value, annotation)
    if value is None:
        return None
    if kind := schema.slot_kind(annotation):
        arguments = {key: entry for key, entry in value.items() if key != "name"}
        return _call(registry().load(kind, value["name"]), arguments, path, wiring)
    if schema.is_options(annotation):
        return _call(annotation, value, path, wiring)
    if isinstance(value, list) and (items := schema.sequence_items(annotation, len(value))) is not None:
        built, wiring = [], dict(wiring)
        for index, (entry, item) in enumerate(zip(value, items, strict=True)):
            built.append(_construct(entry, item, join(path, index), wiring))
            wiring = _after(built[-1], wiring)
        return tuple(built) if schema.is_tuple(annotation) else built
    if isinstance(value, dict) and (item := schema.mapping_item(annotation)) is not None:
        return {key: _construct(entry, item, join(path, key), wiring) for key, entry in value.items()}
    return Path(value) if annotation is Path else value


def _call(target: Any, given: Mapping[str, Any], path: str, wiring: Mapping[str, Any]) -> Any:
    arguments = {}
    for name, parameter in schema.parameters(target).items():
        if name in given:
            arguments[name] = _construct(given[name], parameter.annotation, join(path, name), wiring)
            wiring = _after(arguments[name], wiring)
        elif name in wiring:
            arguments[name] = wiring[name]() if callable(wiring[name]) else wiring[name]
        elif parameter.default is schema.REQUIRED:
            meaning = schema.WIRED.get(name, "a value from the program")
            raise ConfigError([Problem(join(path, name), f"nothing here gives {meaning}; write it out")])
    try:
        return target(**arguments)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError([Problem(path, str(error))]) from error


def _after(part: Any, wiring: Mapping[str, Any]) -> Mapping[str, Any]:
    """The wiring for what comes after a part."""
    shapes = getattr(part, "output_shapes", None)
    return wiring if shapes is None else {**wiring, "input_shapes": shapes}
