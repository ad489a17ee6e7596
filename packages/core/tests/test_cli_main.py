from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from detkit import __version__
from detkit.cli.main import COMMANDS, main
from detkit.plugins import Registry
from detkit.testing.fixtures import Result

Cli = Callable[..., Result]

HELP = "import sys; from detkit.cli.main import main; code = main(['--help'])"
HEAVY = (
    "torch",
    "numpy",
    "torchvision",
    "PIL",
    "yaml",
    "pluggy",
    "click",
    "rich",
    "importlib.metadata",
    "detkit.plugins",
)


def test_help_imports_nothing_heavy_and_no_plugin() -> None:
    script = f"{HELP}; print('LOADED', *(name for name in sys.modules if name in {HEAVY!r} or 'detkit_plugin' in name))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"
    assert all(name in done.stdout for name in COMMANDS)


def test_help_takes_at_most_three_times_as_long_as_python_itself() -> None:
    def seconds(script: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
        return time.perf_counter() - start

    pairs = [(seconds(HELP), seconds("pass")) for _ in range(9)]  # interleaved: other load hits both alike
    assert statistics.median(ours / bare for ours, bare in pairs) <= 3


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_help_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "usage: detkit COMMAND" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"detkit {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "Usage: detkit" in capsys.readouterr().out


def test_an_unknown_command_suggests_near_ones(plugins: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "error: no command is called 'trian'\n  did you mean: train?\n"


COMMAND = """
    from detkit.plugins import Component, hookimpl

    @hookimpl
    def detkit_components():
        return [Component(kind="command", name="acme/hello", target="acme_tool.hello:main")]
"""


def install_command(install_plugin: Callable[..., Path], body: str) -> str:
    """A plugin with the command acme/hello; the folder for PYTHONPATH."""
    return str(install_plugin("acme-tool", COMMAND, files={"acme_tool/hello.py": f"def main(argv):\n    {body}\n"}))


def test_a_plugin_adds_a_command(install_plugin: Callable[..., Path], detkit_cli: Cli) -> None:
    folder = install_command(install_plugin, "print('hello', *argv); return 3")
    done = detkit_cli("acme/hello", "you", "--all", PYTHONPATH=folder)
    assert (done.out, done.code) == ("hello you --all\n", 3)
    assert "did you mean: acme/hello?" in detkit_cli("acme/helo", PYTHONPATH=folder).err


@pytest.mark.parametrize(
    ("body", "printed"),
    [
        ("raise ValueError('wrong size')", "error: wrong size\n"),
        ("open('not/there')", "error: [Errno 2] No such file or directory: 'not/there'\n"),
    ],
)
def test_errors_of_people_are_printed_in_a_line(
    install_plugin: Callable[..., Path], detkit_cli: Cli, body: str, printed: str
) -> None:
    folder = install_command(install_plugin, body)
    done = detkit_cli("acme/hello", PYTHONPATH=folder)
    assert (done.err, done.code) == (printed, 2)
    assert "Traceback" in detkit_cli("acme/hello", PYTHONPATH=folder, DETKIT_TRACEBACK="1").err


def test_errors_of_programs_keep_their_traceback(install_plugin: Callable[..., Path], detkit_cli: Cli) -> None:
    done = detkit_cli("acme/hello", PYTHONPATH=install_command(install_plugin, "return 1 / 0"))
    assert done.code == 1
    assert "ZeroDivisionError" in done.err


def test_an_interrupt_is_no_traceback(install_plugin: Callable[..., Path], detkit_cli: Cli) -> None:
    done = detkit_cli("acme/hello", PYTHONPATH=install_command(install_plugin, "raise KeyboardInterrupt"))
    assert (done.err, done.code) == ("interrupted\n", 130)


def test_a_broken_plugin_does_not_disturb_commands(install_plugin: Callable[..., Path], detkit_cli: Cli) -> None:
    folder = install_plugin("acme-broken", "import not_there")
    done = detkit_cli("plugins", "list", PYTHONPATH=str(folder))
    assert done.code == 0
    assert "acme-broken 0.1  broken: ModuleNotFoundError: No module named 'not_there'\n" in done.out
    assert "det-core" in done.out
