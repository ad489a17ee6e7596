"""Calling the hooks of all plugins, each answer attributed to its plugin, each failure kept to its plugin."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from detkit.plugins.registry import registry

if TYPE_CHECKING:
    from detkit.config import Config
    from detkit.engine.run import Run


def _implementations(hook: str, **arguments: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(plugin name, call) for each plugin that implements the hook, in the order of the names. An implementation may
    leave out arguments that it does not need."""
    implementations = getattr(registry().manager.hook, hook).get_hookimpls()
    for implementation in sorted(implementations, key=lambda found: found.plugin_name):
        passed = {name: arguments[name] for name in implementation.argnames}
        yield implementation.plugin_name, partial(implementation.function, **passed)


def environment() -> dict[str, dict[str, str]]:
    """Plugin name -> what it reports of its environment (`detkit_environment`); {"error": ...} where it failed."""
    found = {}
    for plugin, call in _implementations("detkit_environment"):
        try:
            found[plugin] = {str(key): str(value) for key, value in call().items()}
        except Exception as error:
            found[plugin] = {"error": f"{type(error).__name__}: {error}"}
    return found


def check_config(config: Config) -> list[tuple[str, str]]:
    """(path, message) of all problems that plugins find in a resolved config (`detkit_check_config`)."""
    problems = []
    for plugin, call in _implementations("detkit_check_config", config=config):
        try:
            problems += [(path, f"{message} (plugin {plugin})") for path, message in call() or ()]
        except Exception as error:
            problems.append(("", f"plugin {plugin} failed to check the config: {type(error).__name__}: {error}"))
    return problems


def run_started(run: Run) -> None:
    """Tell all plugins that a run starts (`detkit_run_started`). What one raises stops the run."""
    for plugin, call in _implementations("detkit_run_started", run=run):
        try:
            call()
        except Exception as error:
            error.add_note(f"raised by plugin {plugin} in detkit_run_started")
            raise


def run_finished(run: Run, error: BaseException | None) -> None:
    """Tell all plugins that a run ended (`detkit_run_finished`). What they raise is logged."""
    for plugin, call in _implementations("detkit_run_finished", run=run, error=error):
        try:
            call()
        except Exception:
            logging.getLogger("detkit").exception("plugin %s failed in detkit_run_finished", plugin)
