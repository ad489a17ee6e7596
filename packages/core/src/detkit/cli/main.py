"""The command `detkit`: finds the command to run. Imports no plugin, no torch, and nothing else that takes time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = {
    "train": ("train a model on a dataset", "detkit.cli.train:main"),
    "eval": ("evaluate a model on a dataset", "detkit.cli.evaluate:main"),
    "predict": ("find objects in images", "detkit.cli.predict:main"),
    "data": ("make, check and describe datasets", "detkit.cli.data:main"),
    "models": ("list the recipes that can be trained", "detkit.cli.models:main"),
    "analyze": ("count a model's parameters and operations", "detkit.cli.analyze:main"),
    "config": ("show, explain and compare configs", "detkit.cli.config:main"),
    "convert": ("turn other projects' weights into models", "detkit.cli.convert:main"),
    "plugins": ("list, check and create plugins", "detkit.cli.plugins:main"),
    "doctor": ("report versions, devices and what is wrong", "detkit.cli.doctor:main"),
}
"""Core commands: name -> (help, "module:function" that takes the arguments and returns the exit code)."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code. 2 for wrong usage and for errors that a person can mend (ValueError, OSError),
    which are printed in a line; DETKIT_TRACEBACK=1 shows where they come from."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        from detkit import __version__

        print(f"detkit {__version__}")
        return 0
    try:
        return _find(arguments[0])(arguments[1:])
    except (ValueError, OSError) as error:
        import os

        if os.environ.get("DETKIT_TRACEBACK"):
            raise
        sys.stderr.write(f"error: {error}\n")  # in one piece: several processes may say it at once
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, (summary, _) in COMMANDS.items()]
    return "\n".join(
        [
            "detkit: object detection and segmentation",
            "",
            "usage: detkit COMMAND [ARGUMENTS]",
            "",
            *lines,
            "",
            "`detkit COMMAND --help` says more. `detkit plugins list` shows what is installed, with further commands.",
        ]
    )


def _find(name: str) -> Callable[[list[str]], int]:
    """The function of a core command, or of a plugin's."""
    if name not in COMMANDS:
        return _find_in_plugins(name)
    from importlib import import_module

    module, _, function = COMMANDS[name][1].partition(":")
    found: Callable[[list[str]], int] = getattr(import_module(module), function)
    return found


def _find_in_plugins(name: str) -> Callable[[list[str]], int]:
    from detkit.plugins import UnknownComponentError, registry

    if name not in registry().names("command"):
        raise UnknownComponentError(registry().explain_unknown("command", name, also=COMMANDS))
    found: Callable[[list[str]], int] = registry().load("command", name)
    return found
