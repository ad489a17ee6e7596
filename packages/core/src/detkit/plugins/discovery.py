"""Finding installed plugins and loading each in isolation: a broken one is reported, the others work."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

import pluggy

from detkit.plugins import hookspecs
from detkit.plugins.component import API_VERSION, Component

GROUP = "detkit"
HEAVY_MODULES = ("torch", "torchvision", "numpy", "cv2", "PIL")
"""What a plugin module must not import: everybody would wait for it, whatever they came for."""

NAMED_ELSEWHERE = ("uri_scheme", "detectron2_mapping")
"""Kinds whose names are given: by the addresses in use, by the configs of others. They have no prefix."""

State = Literal["loaded", "disabled", "broken", "incompatible"]


class PluginError(ValueError):
    """A plugin that cannot be used; the message names it and says why."""


class _IncompatibleError(PluginError):
    pass


@dataclass(slots=True)
class PluginInfo:
    """One installed plugin and what became of it."""

    name: str
    version: str
    module: str
    state: State = "loaded"
    error: BaseException | None = None
    seconds: float = 0.0
    heavy: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()

    @property
    def problem(self) -> str:
        """The error in one line; empty if there is none."""
        if self.error is None:
            return ""
        first = (str(self.error).strip() or "no message").splitlines()[0]
        return first if isinstance(self.error, PluginError) else f"{type(self.error).__name__}: {first}"


def canonical(name: str) -> str:
    """A distribution's name as package indexes compare it: Acme_Swin -> acme-swin."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def installed() -> list[EntryPoint]:
    """The entry points of all installed plugins, sorted: the order on disk must not matter."""
    return sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))


def load_plugins(manager: pluggy.PluginManager, points: Iterable[EntryPoint]) -> list[PluginInfo]:
    """Import and register the plugins, each in isolation.

    `DETKIT_DISABLE_PLUGINS=a,b` leaves plugins out. A plugin that fails is logged as a warning in one line.

    Raises:
        PluginError: a plugin failed and `DETKIT_STRICT_PLUGINS` is set.
    """
    disabled = {canonical(name) for name in os.environ.get("DETKIT_DISABLE_PLUGINS", "").split(",")}
    found = []
    for point in points:
        version = point.dist.version if point.dist else ""
        info = PluginInfo(name=point.name, version=version, module=point.value)
        found.append(info)
        if canonical(point.name) in disabled:
            info.state = "disabled"
            continue
        _load(manager, point, info)
        if info.error is None:
            continue
        message = f"plugin {info.name} did not load: {info.problem}"
        if os.environ.get("DETKIT_STRICT_PLUGINS"):
            raise PluginError(message) from info.error
        logging.getLogger("detkit").warning("%s (see: detkit plugins check %s)", message, info.name)
    return found


def _load(manager: pluggy.PluginManager, point: EntryPoint, info: PluginInfo) -> None:
    started, present = time.perf_counter(), set(sys.modules)
    try:
        if point.dist is not None and canonical(point.dist.name) != canonical(point.name):
            raise PluginError(
                f"its entry point is called {point.name!r} but belongs to the distribution {point.dist.name!r}; "
                "the key must be the distribution's name"
            )
        module = importlib.import_module(point.module)
        info.components = register(manager, module, info.name)
    except _IncompatibleError as error:
        info.state, info.error = "incompatible", error
    except (Exception, SystemExit) as error:  # whatever a stranger's module does, ours must go on
        info.state, info.error = "broken", error
    info.seconds = time.perf_counter() - started
    info.heavy = tuple(name for name in HEAVY_MODULES if name in sys.modules and name not in present)


def register(manager: pluggy.PluginManager, plugin: object, name: str) -> tuple[Component, ...]:
    """Check and register a plugin module (or any object with hook implementations); its components.

    Raises:
        PluginError: it speaks another version of the plugin API, implements a hook that does not exist or as a wrapper,
            or declares components wrongly.
    """
    api = getattr(plugin, "DETKIT_API", API_VERSION)
    if api != API_VERSION:
        raise _IncompatibleError(
            f"it speaks plugin API {api}, this det-core speaks {API_VERSION}; install versions that fit together"
        )
    try:
        manager.register(plugin, name)
        manager.check_pending()
        for caller in manager.get_hookcallers(plugin) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin and (implementation.wrapper or implementation.hookwrapper):
                    raise PluginError(f"{caller.name} is a wrapper; implement the hook itself")
        declared = getattr(plugin, hookspecs.detkit_components.__name__, None)
        return _checked(tuple(declared()) if declared else (), name)
    except pluggy.PluginValidationError as error:
        _forget(manager, plugin)
        raise PluginError(f"{' '.join(str(error).split())} (docs/plugins.md lists the hooks)") from error
    except BaseException:
        _forget(manager, plugin)
        raise


def _forget(manager: pluggy.PluginManager, plugin: object) -> None:
    if manager.is_registered(plugin):
        manager.unregister(plugin)


def _checked(components: tuple[Component, ...], plugin: str) -> tuple[Component, ...]:
    seen = set()
    for component in components:
        if not isinstance(component, Component):
            raise PluginError(f"detkit_components answered {component!r}; it must answer Component objects")
        if (component.kind, component.name) in seen:
            raise PluginError(f"{component.kind} {component.name!r} is declared twice")
        seen.add((component.kind, component.name))
        # Short names belong to this project, whose distributions begin with det-: a name must never mean two things.
        named_elsewhere = component.kind in NAMED_ELSEWHERE
        if "/" not in component.name and not canonical(plugin).startswith("det-") and not named_elsewhere:
            short = canonical(plugin).split("-")[0]
            raise PluginError(
                f"{component.kind} {component.name!r} lacks the prefix of a third party's names: "
                f"'{short}/{component.name}'"
            )
    return components
