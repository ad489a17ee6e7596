from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from detkit.config import Config
from detkit.detector import Detector
from detkit.plugins import Registry, use_registry
from detkit.plugins.discovery import installed
from detkit.structures.categories import Categories
from detkit.testing.fixtures import detkit_cli, install_plugin, plugins  # noqa: F401 - fixtures
from detkit.testing.processes import Job
from detkit.testing.processes import detkit as run_detkit

USE_TOY = Path(__file__).parent / "use_toy"
TOY = Path(__file__).parent / "toy"
SAMPLE = Path(__file__).parent / "sample"


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The plugin `sample` is installed, whose components only keep what they are given."""
    monkeypatch.syspath_prepend(str(SAMPLE))
    with use_registry(Registry(installed())) as registry:
        yield registry


@pytest.fixture
def use_toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The plugin use-toy is installed; the folder to put on PYTHONPATH for other processes."""
    monkeypatch.syspath_prepend(str(USE_TOY))
    with use_registry(Registry(installed())):
        yield USE_TOY


@pytest.fixture
def colours(use_toy: Path) -> Detector:
    """A model that finds red (id 3), green (id 7) and blue (id 11), with scores 0.9, 0.6 and 0.3."""
    from use_toy.colours import ColourDetector

    torch.manual_seed(0)
    model = ColourDetector(categories=Categories(names=("red", "green", "blue"), ids=(3, 7, 11))).eval()
    with torch.no_grad():
        model.head.scores.bias[:3] = torch.tensor([0.9, 0.6, 0.3]).logit()
    return model


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy plugin is installed."""
    monkeypatch.syspath_prepend(str(TOY))
    with use_registry(Registry(installed())):
        yield


@pytest.fixture
def toy_data(tmp_path: Path) -> Path:
    """A data source of 16 training and 6 validation images."""
    path = tmp_path / "data.yaml"
    path.write_text("train: {name: toy/toy, images: 16}\nval: {name: toy/toy, images: 6, seed: 1}\n")
    return path


@pytest.fixture
def toy_tree(toy_data: Path) -> Callable[..., dict[str, Any]]:
    """Makes a config of 6 steps of 4 images; keyword arguments change its section `train`."""

    def tree(**train: Any) -> dict[str, Any]:
        options = {
            "optimizer": {"name": "sgd", "lr": 0.01},
            "schedule": {"name": "constant", "warmup": 0},
            "steps": 6,
            "batch_size": 4,
            "lr_batch_size": None,
            "workers": 0,
            "log_every": 1,
            "eval_every": 3,
            "save_every": 2,
            "device": "cpu",
            **train,
        }
        return {
            "model": {"name": "toy/toy"},
            "data": str(toy_data),
            "evaluators": ["toy/toy"],
            "train": {key: value for key, value in options.items() if value is not ...},
        }

    return tree


@pytest.fixture
def toy_config(toy: None, toy_tree: Callable[..., dict[str, Any]]) -> Callable[..., Config]:
    """As `toy_tree`, loaded."""
    return lambda **train: Config.load(toy_tree(**train))


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Job]:
    """Starts a function of detkit.testing.processes in a process of its own, in which the plugins of a folder are
    installed: the toy plugin's unless given."""

    def begin(function: Callable[..., Any], *arguments: object, plugin: Path = TOY, leader: bool = False) -> Job:
        environment = {**os.environ, "PYTHONPATH": str(plugin), "OMP_NUM_THREADS": "1"}
        folder = tmp_path_factory.mktemp("process")
        return Job(function, *arguments, folder=folder, environment=environment, leader=leader)

    return begin


@pytest.fixture
def detkit(start: Callable[..., Job]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command `detkit` in a process of its own, with the toy plugin installed."""
    return lambda *arguments: start(run_detkit, *arguments).wait()
