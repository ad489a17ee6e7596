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

Tree = Callable[..., dict[str, Any]]
Command = Callable[..., subprocess.CompletedProcess[str]]


def write(tree: dict[str, Any], path: Path) -> Path:
    path.write_text(json.dumps(tree))
    return path


def curve(folder: Path, name: str) -> list[float]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in found if name in line]


def test_two_processes_train_as_one_does(toy: None, toy_tree: Tree, detkit: Command, tmp_path: Path) -> None:
    config = write(toy_tree(ema=0.9, accumulate=2, batch_size=8), tmp_path / "config.yaml")
    done = detkit("train", config, "--out", tmp_path / "two", "--processes", 2)
    assert done.returncode == 0, done.stderr
    train(Config.load(config), tmp_path / "one")
    for name in ("loss", "loss_box", "gradient_norm", "bbox/AP"):
        assert curve(tmp_path / "two", name) == pytest.approx(curve(tmp_path / "one", name), rel=1e-4), name
    # each batch has its own normaliser, and the batches are others
    assert curve(tmp_path / "two", "validation/loss") == pytest.approx(
        curve(tmp_path / "one", "validation/loss"), rel=0.05
    )
    evaluation = json.loads((tmp_path / "two" / "metrics.json").read_text())["bbox"]
    assert evaluation["images"] == evaluation["distinct"] == 6


def test_torchrun_runs_the_same_and_sigterm_stops_all_processes_at_one_step(
    toy: None, toy_tree: Tree, detkit: Command, tmp_path: Path
) -> None:
    tree = toy_tree(steps=30, save_every=100, callbacks=[{"name": "toy/toy", "signal_at": 5}])
    config = write(tree, tmp_path / "config.yaml")
    toy_folder = Path(__file__).parent / "toy"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    detkit_command = [sys.executable, "-c", "import sys; from detkit.cli.main import main; sys.exit(main())"]
    done = subprocess.run(
        [*command, *detkit_command, "train", config, "--out", tmp_path / "run"],
        env={**os.environ, "PYTHONPATH": str(toy_folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "saved at step" in done.stderr, done.stderr
    resumed = detkit("train", "--resume", "--out", tmp_path / "run", "--processes", 2)
    assert resumed.returncode == 0, resumed.stderr
    assert len(curve(tmp_path / "run", "loss")) == 30


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


def test_stopping_the_launcher_saves(toy: None, toy_tree: Tree, tmp_path: Path) -> None:
    config = write(toy_tree(steps=100_000, save_every=100_000), tmp_path / "config.yaml")
    command = [sys.executable, "-c", "import sys; from detkit.cli.main import main; sys.exit(main())"]
    launcher = subprocess.Popen(
        [*command, "train", config, "--out", tmp_path / "run", "--processes", "2"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent / "toy"), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert launcher.stderr is not None
    for line in launcher.stderr:
        if line.startswith("step"):
            break
    launcher.send_signal(signal.SIGTERM)
    rest = launcher.communicate(timeout=60)[1]
    assert launcher.returncode == 75, rest
    assert "saved at step" in rest
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1
