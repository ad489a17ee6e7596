"""The python configs of Detectron2 for all tests."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from detkit.testing.fixtures import install_plugin, plugins

__all__ = ["install_plugin", "plugins"]

FILE = Path(__file__).parent / "lazy_configs.yaml"


@pytest.fixture(scope="session")
def python_config() -> Callable[[str], dict[str, Any]]:
    """What Detectron2 dumps of the config of a path."""
    configs = yaml.safe_load(FILE.read_text())["configs"]

    def dumped(path: str) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for key, value in sorted(configs[path].items(), key=lambda entry: entry[0].count(".")):
            *sections, last = key.split(".")
            node: Any = tree
            for section in sections:
                node = node[int(section)] if isinstance(node, list) else node[section]
            node[last] = copy.deepcopy(value)
        generator = tree["model"].get("anchor_generator")
        if generator:
            generator["sizes"] = [[side * 2 ** (octave / 3) for octave in range(3)] for side in (32, 64, 128, 256, 512)]
        return tree

    return dumped
