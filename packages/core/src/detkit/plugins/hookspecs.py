"""Every hook that a plugin may implement. What has a name is a component, not a hook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from detkit.config import Config, Problem
    from detkit.engine.run import Run
    from detkit.plugins.component import Component


hookspec = pluggy.HookspecMarker("detkit")
hookimpl = pluggy.HookimplMarker("detkit")
"""Decorator that marks a function of a plugin module as the implementation of the hook with its name."""


@hookspec
def detkit_components() -> Iterable[Component]:  # type: ignore[empty-body]
    """Declare every named thing that this distribution provides.

    Called once, when the first name is looked up. Must not import torch, numpy or the components themselves.
    Raising leaves this plugin out and reports it.
    """


@hookspec
def detkit_environment() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Versions and devices worth recording with a run, shown by `detkit doctor`.

    Called at the start of a run; may import what it reports on. An exception is reported in place of the answer.
    """


@hookspec
def detkit_check_config(config: Config) -> Iterable[Problem]:  # type: ignore[empty-body]
    """Report what is wrong with a resolved config, such as two options that exclude each other.

    Called after the config has passed all other checks, before anything is built. Must not change it. Problems of all
    plugins are reported together; raising counts as a problem.
    """


@hookspec
def detkit_run_started(run: Run) -> None:
    """Observe the start of a training run. Called before the first step; raising stops the run."""


@hookspec
def detkit_run_finished(run: Run, error: BaseException | None) -> None:
    """Observe the end of a training run, and the error that ended it.

    Every plugin is called; an exception is reported and never hides `error`.
    """
