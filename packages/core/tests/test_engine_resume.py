from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import detkit
from detkit.config import Config
from detkit.engine.train import train
from detkit.testing.processes import Job, module
from detkit.testing.processes import detkit as run_detkit
from detkit.weights import read_weights

Configure = Callable[..., Config]
Tree = Callable[..., dict[str, Any]]
Command = Callable[..., subprocess.CompletedProcess[str]]
in_processes = pytest.mark.xdist_group("processes")  # forked from one

# what a resumed run has to restore: momentum, learning rates by group, dropout's random numbers, averages
DEMANDING: dict[str, Any] = {
    "optimizer": {"name": "adamw", "lr": 0.01, "bias_lr_factor": 2, "lr_factors": {"body": 0.5}},
    "schedule": {"name": "cosine", "warmup": 3},
    "ema": 0.9,
    "steps": 20,
    "save_every": 4,
    "eval_every": 5,
}


def write(tree: dict[str, Any], path: Path, **model: Any) -> Path:
    """A config file (JSON is YAML)."""
    path.write_text(json.dumps({**tree, "model": {"name": "toy/toy", "dropout": 0.3, "batch_norm": True, **model}}))
    return path


def checkpoint(folder: Path) -> dict[str, Tensor]:
    """All weights of the newest checkpoint, trained and averaged."""
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    found = {}
    for name in ("model", "average"):
        if (newest / f"{name}.safetensors").exists():
            found |= {f"{name}.{key}": value for key, value in read_weights(newest / f"{name}.safetensors").items()}
    return found


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def steps(folder: Path) -> list[int]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in found if "loss" in line]


@in_processes
def test_a_run_killed_between_checkpoints_continues_bit_for_bit(
    toy_config: Configure, toy_tree: Tree, detkit: Command, tmp_path: Path
) -> None:
    step = 11  # the last checkpoint is of step 8, the last evaluation of step 10
    tree = toy_tree(**DEMANDING, workers=1)
    train(Config.load(write(tree, tmp_path / "whole.yaml")), tmp_path / "whole")
    tree["train"]["callbacks"] = [{"name": "toy/toy", "signal_at": step, "signal_name": "SIGKILL"}]
    config = write(tree, tmp_path / "killed.yaml")
    killed = detkit("train", config, "--out", tmp_path / "killed")
    assert killed.returncode == -9, killed.stderr
    resumed = detkit("train", "--resume", "--out", tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert equal(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "killed"))
    assert steps(tmp_path / "killed") == list(range(1, 21))


def test_a_run_killed_while_it_wrote_its_config_starts_again(toy: None, toy_tree: Tree, tmp_path: Path) -> None:
    config = Config.load(write(toy_tree(**DEMANDING, workers=0), tmp_path / "config.yaml"))
    for name, resume in (("resumed", True), ("new", False)):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".config.yaml.partial").write_text("train: {st")
        train(config, tmp_path / name, resume=resume)
        assert steps(tmp_path / name) == list(range(1, 21))


@in_processes
def test_a_run_killed_often_and_at_any_moment_ends_the_same(
    toy: None, toy_tree: Tree, start: Callable[..., Job], tmp_path: Path
) -> None:
    write(toy_tree(**{**DEMANDING, "steps": 60, "save_every": 1}), tmp_path / "config.yaml")
    done = start(module, "kill_often", tmp_path).wait()
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    assert equal(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "killed"))
    assert steps(tmp_path / "killed") == steps(tmp_path / "whole")


@in_processes
def test_sigterm_saves_and_leaves_with_its_own_exit_code(
    toy_config: Configure, toy_tree: Tree, detkit: Command, tmp_path: Path
) -> None:
    tree = toy_tree(**DEMANDING, callbacks=[{"name": "toy/toy", "signal_at": 7}])
    config = write(tree, tmp_path / "config.yaml")
    stopped = detkit("train", config, "--out", tmp_path / "run")
    assert stopped.returncode == 75, stopped.stderr
    assert f"saved at step 8 of 20; continue with: detkit train --resume --out {tmp_path / 'run'}" in stopped.stderr
    resumed = detkit("train", "--resume", "--out", tmp_path / "run")
    assert resumed.returncode == 0, resumed.stderr
    train(Config.load(write(toy_tree(**DEMANDING), tmp_path / "whole.yaml")), tmp_path / "whole")
    assert equal(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "run"))


@in_processes
def test_a_signal_to_all_processes_of_a_job_still_lets_it_save(
    toy: None, toy_tree: Tree, start: Callable[..., Job], tmp_path: Path
) -> None:
    config = write(toy_tree(steps=100_000, save_every=100_000, workers=2), tmp_path / "config.yaml")
    job = start(run_detkit, "train", config, "--out", tmp_path / "run", leader=True)
    job.wait_for("step ")
    os.killpg(job.pid, signal.SIGTERM)
    done = job.wait()
    assert done.returncode == 75, done.stderr
    assert "saved at step" in done.stderr


@in_processes
def test_a_full_disk_loses_no_checkpoint(toy: None, toy_tree: Tree, detkit: Command, tmp_path: Path) -> None:
    tree = toy_tree(**{**DEMANDING, "log_every": 6}, callbacks=[{"name": "toy/toy", "full_at": 6}])
    failed = detkit("train", write(tree, tmp_path / "config.yaml"), "--out", tmp_path / "run")
    assert failed.returncode == 2
    assert "cannot save the checkpoint" in failed.stderr and "step-00000004 is intact" in failed.stderr
    assert "Make room, then continue with --resume" in failed.stderr
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]
    import detkit as package

    package.load(tmp_path / "run")
    run = train(Config.load(tmp_path / "run" / "config.yaml"), tmp_path / "run", resume=True)
    assert run.step == 20


def test_callbacks_keep_their_state(toy_config: Configure, tmp_path: Path) -> None:
    config = toy_config(callbacks=["toy/toy"])
    train(config, tmp_path / "run")
    trainer = torch.load(tmp_path / "run" / "checkpoints" / "step-00000006" / "trainer.pt", weights_only=True)
    assert trainer["callbacks"][0]["events"][:3] == ["start", "step 1", "step 2"]


def test_the_newest_checkpoints_are_kept(toy_config: Configure, tmp_path: Path) -> None:
    train(toy_config(keep=2), tmp_path / "run")
    found = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert found == ["step-00000004", "step-00000006"]


def test_a_new_run_does_not_overwrite_another(toy_config: Configure, tmp_path: Path) -> None:
    train(toy_config(), tmp_path / "run")
    with pytest.raises(ValueError, match=r"run is not empty; give --resume .* --extend N .* another --out"):
        train(toy_config(), tmp_path / "run")


def test_resuming_a_run_that_is_not_there_starts_it(toy_config: Configure, tmp_path: Path) -> None:
    assert train(toy_config(), tmp_path / "run", resume=True).step == 6


def test_resuming_a_folder_without_a_run_is_an_error(toy_config: Configure, toy_data: Path) -> None:
    with pytest.raises(ValueError, match="does not hold a run"):
        train(toy_config(), toy_data.parent, resume=True)


def test_resuming_a_finished_run_does_nothing(
    toy_config: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(toy_config(), tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert train(toy_config(), tmp_path / "run", resume=True).finished
    assert "this run is finished (step 6); --extend" in capsys.readouterr().err
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_resuming_with_another_config_names_the_changes(toy_config: Configure, tmp_path: Path) -> None:
    train(toy_config(), tmp_path / "run")
    with pytest.raises(ValueError) as error:
        train(toy_config(batch_size=8, clip_norm=1.0, log_every=3), tmp_path / "run", resume=True)
    assert "train.batch_size: 4 in the run, 8 now" in str(error.value)
    assert "train.clip_norm: null in the run, 1.0 now" in str(error.value)
    assert "log_every" not in str(error.value)


def test_extending_trains_for_longer(toy_config: Configure, tmp_path: Path) -> None:
    train(toy_config(), tmp_path / "run")
    run = train(toy_config(), tmp_path / "run", extend=4)
    assert run.step == 10
    assert steps(tmp_path / "run") == list(range(1, 11))
    assert Config.load(tmp_path / "run" / "config.yaml").get("train.steps") == 10
    train(toy_config(steps=10), tmp_path / "whole")
    assert equal(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "run"))


@in_processes
def test_only_a_finished_run_can_be_extended(toy: None, toy_tree: Tree, detkit: Command, tmp_path: Path) -> None:
    tree = toy_tree(callbacks=[{"name": "toy/toy", "signal_at": 3}])
    assert detkit("train", write(tree, tmp_path / "config.yaml"), "--out", tmp_path / "run").returncode == 75
    with pytest.raises(ValueError, match=r"is not finished \(step 4\); --resume finishes it"):
        train(Config.load(tmp_path / "run" / "config.yaml"), tmp_path / "run", extend=2)


def test_init_takes_weights_and_nothing_else(
    toy_config: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(toy_config(), tmp_path / "first")
    run = train(toy_config(steps=1, optimizer={"name": "sgd", "lr": 1e-12}), tmp_path / "second", init=first.folder)
    assert run.step == 1
    assert "took over" in capsys.readouterr().err
    for name, value in detkit.load(first.folder / "best").state_dict().items():
        assert torch.allclose(run.model.state_dict()[name], value)


def test_init_resume_and_extend_exclude_each_other(toy_config: Configure, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resume and init exclude each other"):
        train(toy_config(), tmp_path / "run", resume=True, init="somewhere")


def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(toy_config: Configure, tmp_path: Path) -> None:
    train(toy_config(), tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "step-00000006" / "trainer.pt").write_bytes(b"not this")
    with pytest.raises(ValueError, match=r"trainer.pt is damaged .* remove .*step-00000006 to resume"):
        train(toy_config(), tmp_path / "run", resume=True)
