"""The plugin contract: how an installed distribution adds named components and observes runs.

A distribution names one light module in the entry-point group `detkit`, its key equal to the distribution's name:

    [project.entry-points.detkit]
    acme-swin = "acme_swin.detkit_plugin"

and that module implements hooks:

    from detkit.plugins import Component, hookimpl

    @hookimpl
    def detkit_components():
        return [Component(kind="backbone", name="acme/swin", target="acme_swin.swin:Swin", summary="Swin Transformer")]

See docs/plugins.md for every hook and every kind.
"""

from detkit.plugins.calls import check_config, environment, run_finished, run_started
from detkit.plugins.component import API_VERSION, KINDS, Component
from detkit.plugins.discovery import PluginError, PluginInfo
from detkit.plugins.hookspecs import hookimpl
from detkit.plugins.registry import (
    ComponentError,
    DuplicateComponentError,
    Registry,
    UnknownComponentError,
    registry,
    use_registry,
)

__all__ = [
    "API_VERSION",
    "KINDS",
    "Component",
    "ComponentError",
    "DuplicateComponentError",
    "PluginError",
    "PluginInfo",
    "Registry",
    "UnknownComponentError",
    "check_config",
    "environment",
    "hookimpl",
    "registry",
    "run_finished",
    "run_started",
    "use_registry",
]
