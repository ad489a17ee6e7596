"""The light modules bring in nothing heavy, measured in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools.packages import ROOT, find_packages

HEAVY = {"torch", "torchvision", "numpy", "PIL", "safetensors", "tensorboard"}
CORE = ROOT / "packages/core/src"


def light_modules() -> list[str]:
    files = [file for part in ("plugins", "config", "cli") for file in (CORE / "detkit" / part).rglob("*.py")]
    names = [".".join(file.relative_to(CORE).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return sorted(names) + [each.plugin_module for each in find_packages().values() if each.plugin_module]


@pytest.fixture(scope="module")
def loaded_by() -> dict[str, set[str]]:
    """Light module -> heavy libraries loaded after importing it and those before it, in one interpreter."""
    script = (
        "import importlib, sys\n"
        f"heavy = {HEAVY!r}\n"
        f"for name in {light_modules()!r}:\n"
        "    importlib.import_module(name)\n"
        "    print(name, *sorted(heavy & sys.modules.keys()))\n"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return {words[0]: set(words[1:]) for words in (line.split() for line in output.splitlines())}


def test_light_modules_stay_light(loaded_by: dict[str, set[str]]) -> None:
    """The first module of the list with something in it is the one to mend."""
    heavy = {module: libraries for module, libraries in loaded_by.items() if libraries}
    assert not heavy
