"""Plugins add subcommands to `detkit data`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from detkit.cli.data import main
from detkit.plugins import Registry, use_registry
from detkit.plugins.discovery import installed

PLUGIN = """
from detkit.plugins import Component, hookimpl

@hookimpl
def detkit_components():
    return [
        Component(kind="command", name=name, target="acme_data.command:main", summary="Count what is there.")
        for name in ("acme/data-count", "acme/data-make-sheep", "acme/count")
    ]
"""
COMMAND = """
def main(argv):
    print("counting", *argv)
    return 3
"""


@pytest.fixture(autouse=True)
def _plugin(install_plugin: Callable[..., Path]) -> None:
    install_plugin("acme-data", PLUGIN, files={"acme_data/command.py": COMMAND})


def test_its_arguments_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with use_registry(Registry(installed())):
        assert main(["acme/count", "here", "--help", "--deep=2"]) == 3
    assert capsys.readouterr().out == "counting here --help --deep=2\n"


def test_help_lists_it(capsys: pytest.CaptureFixture[str]) -> None:
    with use_registry(Registry(installed())):
        assert main(["--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "acme/count  Count what is there." in lines
    assert not any("sheep" in line for line in lines)
