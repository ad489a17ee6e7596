from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from detkit.plugins import Registry, check_config, environment, hookimpl, run_finished, run_started


def plugin(**hooks: Any) -> SimpleNamespace:
    return SimpleNamespace(**{f"detkit_{name}": hookimpl(function) for name, function in hooks.items()})


def fail(*_: Any) -> Any:
    raise RuntimeError("no disk")


def test_environments_are_attributed_and_failures_kept_apart(plugins: Registry) -> None:
    plugins.register(plugin(environment=lambda: {"driver": 12}), "acme-good")
    plugins.register(plugin(environment=lambda: fail()), "acme-bad")
    assert environment() == {"acme-good": {"driver": "12"}, "acme-bad": {"error": "RuntimeError: no disk"}}


def test_problems_of_all_plugins_are_collected(plugins: Registry) -> None:
    plugins.register(plugin(check_config=lambda config: [("train.steps", f"{config} steps")]), "a")
    plugins.register(plugin(check_config=lambda: None), "b")
    plugins.register(plugin(check_config=lambda config: fail()), "c")
    assert check_config(cast("Any", 3)) == [
        ("train.steps", "3 steps (plugin a)"),
        ("", "plugin c failed to check the config: RuntimeError: no disk"),
    ]


def test_a_plugin_can_stop_a_run_before_it_starts(plugins: Registry) -> None:
    plugins.register(plugin(run_started=lambda run: fail()), "acme")
    with pytest.raises(RuntimeError, match="no disk") as caught:
        run_started(cast("Any", "run"))
    assert caught.value.__notes__ == ["raised by plugin acme in detkit_run_started"]


def test_every_plugin_hears_of_the_end_of_a_run(plugins: Registry, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[Any, Any]] = []
    plugins.register(plugin(run_finished=lambda run, error: fail()), "a")
    plugins.register(plugin(run_finished=lambda run, error: heard.append((run, error))), "b")
    with caplog.at_level(logging.ERROR, "detkit"):
        run_finished(cast("Any", "run"), None)
    assert heard == [("run", None)]
    assert "plugin a failed in detkit_run_finished" in caplog.text
