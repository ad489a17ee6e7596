"""pytest fixtures for tests of plugins; for conftest.py: `from detkit.testing.fixtures import detkit_cli, plugins`."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from detkit.plugins import Registry, use_registry

__all__ = ["detkit_cli", "install_plugin", "plugins"]


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit code."""

    out: str
    err: str
    code: int


@pytest.fixture
def plugins() -> Iterator[Registry]:
    """A registry without the installed plugins, which `detkit.plugins.registry()` answers during the test. Fill it:
    `plugins.register(my_package.detkit_plugin, "acme-swin")`."""
    with use_registry(Registry()) as registry:
        yield registry


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Installs a plugin distribution for the length of the test: `install_plugin("acme-swin", SOURCE)` writes its
    metadata and its plugin module with this source, and puts their folder (the answer) on `sys.path`. For other
    processes put it on PYTHONPATH. `key` and `target` replace those of the entry point, `files` are further files by
    path."""

    def install(
        name: str,
        source: str,
        *,
        version: str = "0.1",
        key: str | None = None,
        target: str | None = None,
        files: dict[str, str] | None = None,
    ) -> Path:
        folder, package = tmp_path / f"site-{name}", name.replace("-", "_")
        metadata = folder / f"{package}-{version}.dist-info"
        contents = {
            metadata / "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            metadata / "entry_points.txt": f"[detkit]\n{key or name} = {target or f'{package}.detkit_plugin'}\n",
            folder / package / "__init__.py": "",
            folder / package / "detkit_plugin.py": textwrap.dedent(source),
            **{folder / path: textwrap.dedent(text) for path, text in (files or {}).items()},
        }
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(folder))
        return folder

    yield install
    for name, module in list(sys.modules.items()):  # the next test may install another plugin of this name
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def detkit_cli() -> Callable[..., Result]:
    """Runs `detkit ARGUMENTS...` in a process of its own, without the DETKIT_ variables of this one; keyword arguments
    are environment variables."""

    def run(*arguments: object, timeout: float = 300, **environment: str) -> Result:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DETKIT_")}
        command = [sys.executable, "-c", "import sys; from detkit.cli.main import main; sys.exit(main())"]
        done = subprocess.run(
            [*command, *map(str, arguments)],
            env={**clean, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Result(done.stdout, done.stderr, done.returncode)

    return run
