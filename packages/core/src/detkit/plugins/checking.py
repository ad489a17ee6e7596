"""The rules that a plugin must keep, one by one: for its author, and for CI."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from detkit.plugins.component import Component
from detkit.plugins.discovery import HEAVY_MODULES, PluginInfo, canonical
from detkit.plugins.interfaces import INTERFACES, USERS
from detkit.plugins.registry import Registry


class Finding(NamedTuple):
    """One rule, and what is wrong; empty if it is kept."""

    rule: str
    problem: str = ""


def check_plugin(registry: Registry, info: PluginInfo) -> Iterator[Finding]:
    """Check an installed plugin against every rule. Imports all that it provides."""
    yield Finding("it is installed once", _installed_twice(info.name))
    yield Finding(
        "its module loads and keeps the contract", "" if info.state == "loaded" else f"{info.state}: {info.problem}"
    )
    if info.state != "loaded":
        return
    yield Finding("its module imports nothing heavy", _heavy(info.module))
    yield Finding("it requires det-core with a lower and an upper bound", _requirement(info.name))
    yield Finding("it publishes its types (py.typed)", _typed(info.module))
    for component in info.components:
        yield Finding(f"{component.kind} {component.name}", check_component(registry, component))


def check_component(registry: Registry, component: Component) -> str:
    """What is wrong with one component: its name is taken, it cannot be imported, it is not of its kind, or a config
    cannot hold its arguments. Empty if nothing is."""
    others = registry.providers(component.kind, component.name)
    if len(others) > 1:
        return f"several plugins provide it: {', '.join(info.name for info in others)}"
    if component.kind == "recipe":
        return _recipe(component)
    if (user := USERS.get(component.kind)) and importlib.util.find_spec(user) is None:
        return ""
    try:
        target = registry.load(component.kind, component.name)
    except ValueError as error:
        return str(error)
    if not callable(target):
        return f"{component.target} cannot be called"
    problem = _class(component, target) if component.kind in INTERFACES else ""
    return problem or (_member(component, target) if component.member else "")


def _member(component: Component, target: Any) -> str:
    from detkit.config import schema

    found = schema.parameters(target).get(component.member)
    if found and found.annotation is str:
        return ""
    return f"its member {component.member!r} is no argument of {component.target} that takes text"


def _class(component: Component, target: Any) -> str:
    from detkit.config import schema

    module, _, name = INTERFACES[component.kind].partition(":")
    interface = getattr(importlib.import_module(module), name)
    if not (isinstance(target, type) and issubclass(target, interface)):
        return f"{component.target} is not a subclass of {module}.{name}"
    if inspect.isabstract(target):
        return f"{component.target} does not implement {', '.join(sorted(vars(target)['__abstractmethods__']))}"
    if not target.__doc__:
        return f"{component.target} has no docstring, which is its reference (`detkit config explain`)"
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    constructor: Any = target.__dict__.get("__init__")
    signature = inspect.signature(constructor).parameters.values() if constructor else ()
    if any(parameter.kind in variadic for parameter in signature):
        return (
            f"{component.target} takes *args or **kwargs; a config cannot be checked against these: name each argument"
        )
    try:
        parameters = schema.parameters(target)
    except ValueError as error:
        return str(error)
    documented = schema.documentation(target)[1]
    for parameter in parameters.values():
        if parameter.name in schema.WIRED:
            continue
        if not schema.can_hold(parameter.annotation):
            return f"argument {parameter.name!r} is {schema.describe(parameter.annotation)}"
        if parameter.name not in documented:
            return f"argument {parameter.name!r} is not described under `Args:` in the docstring"
    return ""


def _recipe(component: Component) -> str:
    from detkit.config import Config

    try:
        Config.load(component.name)
    except ValueError as error:
        return str(error)
    return ""


def _installed_twice(name: str) -> str:
    found = [each for each in metadata.distributions() if canonical(each.metadata["Name"] or "") == canonical(name)]
    if len({each.version for each in found}) < 2:  # an editable install has its metadata twice
        return ""
    places = ", ".join(f"{each.version} in {each.locate_file('')}" for each in found)
    return f"several versions are installed, of which the first counts: {places}"


def _heavy(module: str) -> str:
    script = f"import sys, {module}; print(*(name for name in {HEAVY_MODULES!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if done.returncode:
        return f"it does not import in a new interpreter: {(done.stderr.strip() or 'no message').splitlines()[-1]}"
    heavy = ", ".join(done.stdout.split())
    return (
        f"it imports {heavy}, for which every `detkit` command would wait; import it where it is used" if heavy else ""
    )


def _requirement(name: str) -> str:
    from packaging.requirements import Requirement

    if canonical(name) == "det-core":
        return ""
    requirements = [Requirement(text) for text in metadata.requires(name) or ()]
    wanted = next((each for each in requirements if canonical(each.name) == "det-core" and not each.marker), None)
    operators = {specifier.operator for specifier in wanted.specifier} if wanted else set()
    if operators & {"==", "~="} or (operators & {">=", ">"} and operators & {"<", "<="}):
        return ""
    return f"its requirement is {str(wanted) if wanted else 'missing'}; write it as in det-core>=0.1,<0.2"


def _typed(module: str) -> str:
    package = module.partition(".")[0]
    found = importlib.util.find_spec(package)
    if found and found.origin and (Path(found.origin).parent / "py.typed").is_file():
        return ""
    return f"there is no file py.typed in {package}"
