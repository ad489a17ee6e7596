"""Several processes on this machine, through gloo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detkit.config import Config
from detkit.engine.length import Length
from detkit.engine.train import train
from detkit.testing.processes import Job, module
from detkit.testing.processes import detkit as run_detkit

Tree = Callable[..., dict[str, Any]]
Command = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.xdist_group("processes")  # forked from one


def write(tree: dict[str, Any], path: Path) -> Path:
    path.write_text(json.dumps(tree))
    return path


def curve(folder: Path, name: str) -> list[float]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in found if name in line]


def test_two_processes_train_as_one_does(
    toy: None, toy_tree: Tree, start: Callable[..., Job], detkit: Command, tmp_path: Path
) -> None:
    """Begun by torchrun, stopped at one step by a signal to one of them, resumed by our own launcher."""
    options = {"ema": 0.9, "accumulate": 2, "batch_size": 8, "steps": 9, "save_every": 100}
    stopping = toy_tree(**options, callbacks=[{"name": "toy/toy", "signal_at": 4}])
    config = write(stopping, tmp_path / "config.yaml")
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python")
    command = (sys.executable, "-c", "import sys; from detkit.cli.main import main; sys.exit(main())")
    stopped = start(module, *torchrun, *command, "train", config, "--out", tmp_path / "two").wait()
    assert "saved at step" in stopped.stderr, stopped.stderr
    assert len(curve(tmp_path / "two", "loss")) < 9
    resumed = detkit("train", "--resume", "--out", tmp_path / "two", "--processes", 2)
    assert resumed.returncode == 0, resumed.stderr
    train(Config.load(toy_tree(**options)), tmp_path / "one")
    for name in ("loss", "loss_box", "gradient_norm", "bbox/AP"):
        assert curve(tmp_path / "two", name) == pytest.approx(curve(tmp_path / "one", name), rel=1e-4), name
    # each batch has its own normaliser, and the batches are others
    assert curve(tmp_path / "two", "validation/loss") == pytest.approx(
        curve(tmp_path / "one", "validation/loss"), rel=0.05
    )
    evaluation = json.loads((tmp_path / "two" / "metrics.json").read_text())["bbox"]
    assert evaluation["images"] == evaluation["distinct"] == 6


def test_a_batch_that_cannot_be_divided_names_one_that_can(toy_config: Callable[..., Config]) -> None:
    options = toy_config(batch_size=12, accumulate=2).build("train")
    with pytest.raises(ValueError, match=r"12 cannot be divided among 4 processes x train.accumulate 2; .* such as 16"):
        Length(options, images=16).check(processes=4)


def test_an_error_in_the_processes_is_told_as_in_one(
    toy: None, toy_tree: Tree, detkit: Command, tmp_path: Path
) -> None:
    config = write(toy_tree(batch_size=3), tmp_path / "config.yaml")
    done = detkit("train", config, "--out", tmp_path / "run", "--processes", 2)
    assert done.returncode == 2
    lines = set(done.stderr.splitlines())
    assert len(lines) == 1 and "train.batch_size 3 cannot be divided among 2 processes" in lines.pop()


def test_stopping_the_launcher_saves(toy: None, toy_tree: Tree, start: Callable[..., Job], tmp_path: Path) -> None:
    config = write(toy_tree(steps=100_000, save_every=100_000), tmp_path / "config.yaml")
    launcher = start(run_detkit, "train", config, "--out", tmp_path / "run", "--processes", "2")
    launcher.wait_for("step ")
    os.kill(launcher.pid, signal.SIGTERM)
    done = launcher.wait()
    assert done.returncode == 75, done.stderr
    assert "saved at step" in done.stderr
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1
