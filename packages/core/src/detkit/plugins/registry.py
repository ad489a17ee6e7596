"""From a kind and a name to the component, imported when it is asked for."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from importlib.resources import files
from typing import Any

import pluggy

from detkit.plugins import discovery, hookspecs
from detkit.plugins.component import KINDS, Component
from detkit.plugins.discovery import PluginInfo


class ComponentError(ValueError):
    """A component that cannot be used."""


class UnknownComponentError(ComponentError):
    """No installed plugin provides the name. Says what is near, what to install and what did not load."""


class DuplicateComponentError(ComponentError):
    """Several installed plugins provide the name."""


_LISTED = 40
"""Names that are listed to somebody who asked for one that there is not; of more, only how many there are."""


class Registry:
    """All components of a set of plugins.

    Args:
        points: the plugins' entry points, as `detkit.plugins.discovery.installed()` finds them.
    """

    def __init__(self, points: Iterable[EntryPoint] = ()) -> None:
        self.manager = pluggy.PluginManager("detkit")
        self.manager.add_hookspecs(hookspecs)
        self._plugins: list[PluginInfo] = []
        self._provided: dict[str, dict[str, list[tuple[PluginInfo, Component]]]] = {kind: {} for kind in KINDS}
        for info in discovery.load_plugins(self.manager, points):
            self._add(info)

    def register(self, plugin: object, name: str, version: str = "") -> PluginInfo:
        """Add a plugin that is not installed: a module, or any object with hook implementations.

        Raises:
            PluginError: the plugin breaks the contract.
        """
        components = discovery.register(self.manager, plugin, name)
        module = getattr(plugin, "__name__", type(plugin).__name__)
        info = PluginInfo(name=name, version=version, module=module, components=components)
        self._add(info)
        return info

    def _add(self, info: PluginInfo) -> None:
        self._plugins.append(info)
        for component in info.components:
            self._provided[component.kind].setdefault(component.name, []).append((info, component))

    def plugins(self) -> list[PluginInfo]:
        """Every plugin that was found, with its state."""
        return list(self._plugins)

    def names(self, kind: str) -> list[str]:
        """The names of all components of a kind, sorted."""
        return sorted(self._provided[kind])

    def components(self, kind: str | None = None) -> list[Component]:
        """All components, of one kind or of all, sorted by kind and name."""
        kinds = sorted(self._provided) if kind is None else [kind]
        return [component for k in kinds for name in self.names(k) for _, component in self._provided[k][name]]

    def providers(self, kind: str, name: str) -> list[PluginInfo]:
        """The plugins that provide a name; more than one is a conflict."""
        return [info for info, _ in self._provided[kind].get(name, ())]

    def find(self, kind: str, name: str) -> Component:
        """The component with this name.

        Raises:
            UnknownComponentError: there is none.
            DuplicateComponentError: several plugins provide it.
        """
        found = self._provided[kind].get(name, [])
        if not found:
            raise UnknownComponentError(self.explain_unknown(kind, name))
        if len(found) > 1:
            both = " and ".join(f"{info.name} ({component.target})" for info, component in found)
            raise DuplicateComponentError(
                f"{kind} {name!r} is provided by both {both}; uninstall one, or leave it out with "
                f"DETKIT_DISABLE_PLUGINS={found[0][0].name}"
            )
        return found[0][1]

    def expand(self, kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A component's mapping with the member of a family as an argument: {name: timm/resnet18} is
        {name: timm, model: resnet18}. Other mappings stay as they are.

        Raises:
            ComponentError: the member is given twice, or the whole name is another component's.
        """
        name = spec["name"]
        for family in self.components(kind):
            if not family.member or not name.startswith(f"{family.name}/"):
                continue
            if name in self._provided[kind]:
                both = " and ".join(info.name for each in (family.name, name) for info in self.providers(kind, each))
                raise DuplicateComponentError(f"{kind} {name!r} is provided by both {both}; uninstall one")
            if family.member in spec:
                raise ComponentError(f"the name is {name!r} and {family.member!r} is given too; leave one out")
            return {**spec, "name": family.name, family.member: name.removeprefix(f"{family.name}/")}
        return dict(spec)

    def load(self, kind: str, name: str) -> Any:
        """Import the component with this name.

        Raises:
            ComponentError: it is unknown, ambiguous, or cannot be imported.
        """
        component = self.find(kind, name)
        module, _, attribute = component.target.partition(":")
        try:
            loaded: Any = importlib.import_module(module)
            for part in attribute.split("."):
                loaded = getattr(loaded, part)
        except Exception as error:  # whatever importing it raises
            [plugin] = self.providers(kind, name)
            raise ComponentError(
                f"{kind} {name!r} of plugin {plugin.name} cannot be imported from {component.target}: "
                f"{type(error).__name__}: {error} (see: detkit plugins check {plugin.name})"
            ) from error
        return loaded

    def distribution(self, kind: str, name: str) -> str | None:
        """The distribution of this project that provides a name, installed or not."""
        known = json.loads(files("detkit.plugins").joinpath("known_components.json").read_text())
        found: str | None = known.get(kind, {}).get(name)
        return found

    def explain_unknown(self, kind: str, name: str, also: Iterable[str] = ()) -> str:
        """What to tell somebody who asked for a name that there is not: near names (among `also` too), the distribution
        that provides it, the plugins that did not load."""
        import difflib  # only errors need it

        names = sorted({*self.names(kind), *also})
        lines = [f"no {kind} is called {name!r}"]
        family = name.partition("/")[0]
        if distribution := self.distribution(kind, name if family in names else family):
            lines.append(f"it is provided by {distribution}: pip install {distribution}")
        elif near := difflib.get_close_matches(name, names, n=3):
            lines.append(f"did you mean: {', '.join(near)}?")
        elif len(names) > _LISTED:
            lines.append(
                f"there are {len(names)}; `detkit {'models' if kind == 'recipe' else 'plugins list'}` shows them"
            )
        elif names:
            lines.append(f"there are: {', '.join(names)}")
        for info in self._plugins:
            if info.state == "disabled":
                lines.append(f"note: plugin {info.name} is disabled by DETKIT_DISABLE_PLUGINS")
            elif info.error is not None:
                lines.append(
                    f"note: plugin {info.name} did not load ({info.problem}); see: detkit plugins check {info.name}"
                )
        return "\n  ".join(lines)


_current: Registry | None = None


def registry() -> Registry:
    """The registry of the installed plugins, which are scanned once for each process."""
    global _current
    if _current is None:
        _current = Registry(discovery.installed())
    return _current


@contextmanager
def use_registry(replacement: Registry) -> Iterator[Registry]:
    """Let `registry()` answer another registry for a while; for tests of plugins."""
    global _current
    previous, _current = _current, replacement
    try:
        yield replacement
    finally:
        _current = previous
