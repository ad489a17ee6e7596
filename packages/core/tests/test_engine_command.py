"""The command `detkit train`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detkit.cli.main import main

Tree = Callable[..., dict[str, Any]]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def recipe(toy: None, toy_tree: Tree, tmp_path: Path) -> Path:
    path = tmp_path / "my-recipe.yaml"
    path.write_text(json.dumps({**toy_tree(), "data": None}))
    return path


def test_one_command_trains_and_says_where_everything_is(
    recipe: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(recipe), f"data={toy_data}", "train.steps=4", "--train.clip_norm", "1"]) == 0
    said = capsys.readouterr()
    assert "trained 4 steps (1 epochs); results are in runs/my-recipe-1" in said.out
    assert "try: detkit predict runs/my-recipe-1/best IMAGE" in said.out
    assert "length: 4 steps of 4 images = 1 epochs" in said.err
    assert "data: 16 images, 6 for validation; 2 classes: red, green" in said.err
    assert (tmp_path / "runs" / "my-recipe-1" / "best" / "model.safetensors").exists()


def test_a_second_run_gets_a_folder_of_its_own(
    recipe: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["train", str(recipe), f"data={toy_data}", "train.steps=1"]) == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"my-recipe-1", "my-recipe-2"}


def test_extending_needs_no_recipe(
    recipe: Path, toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(["train", str(recipe), f"data={toy_data}", "--out", out]) == 0
    assert main(["train", "--extend", "2", "--out", out]) == 0
    assert "trained 8 steps" in capsys.readouterr().out


def test_init_is_recorded_in_the_config(recipe: Path, toy_data: Path, tmp_path: Path) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert main(["train", str(recipe), f"data={toy_data}", "--out", first]) == 0
    assert main(["train", str(recipe), f"data={toy_data}", "--out", second, "--init", first]) == 0
    from detkit.config import Config

    assert Config.load(tmp_path / "second" / "config.yaml").get("init") == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a recipe or a YAML file first"),
        (["--resume"], "--resume and --extend need --out"),
        (["no-such-recipe"], "no-such-recipe"),
        (["{recipe}", "train.stepz=3"], "did you mean 'steps'"),
        (["{recipe}", "data=/nowhere"], "there is no data at /nowhere"),
        (["{recipe}"], "give data=PATH"),
        (["{recipe}", "another"], "cannot read 'another'"),
    ],
)
def test_wrong_usage_says_what_to_do(
    recipe: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, tmp_path: Path
) -> None:
    words = [argument.format(recipe=recipe) for argument in arguments]
    out = [] if "--resume" in words else ["--out", str(tmp_path / "run")]
    assert main(["train", *words, *out]) == 2
    assert message in capsys.readouterr().err


def test_processes_of_torchrun_must_agree_on_a_folder(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    assert main(["train", str(recipe)]) == 2
    assert "processes that torchrun starts need --out" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_ends_the_command_without_a_traceback(
    recipe: Path, toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_data.write_text("train: {name: toy/toy, images: 16, broken: 5}\n")
    assert main(["train", str(recipe), f"data={toy_data}", "--out", str(tmp_path / "run")]) == 1
    assert "error: training stopped at step" in capsys.readouterr().err
