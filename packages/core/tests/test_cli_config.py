from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from detkit.cli import config, models
from detkit.config import Config, ConfigError

pytestmark = pytest.mark.usefixtures("sample")


def test_show_prints_the_resolved_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert config.main(["show", "sample/first", "train.steps=3", "--model.backbone.depth", "7"]) == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    assert tree == Config.load("sample/first", ["train.steps=3", "model.backbone.depth=7"]).tree


def test_explain_says_what_an_option_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert config.main(["explain", "model.backbone.depth", "sample/first"]) == 0
    out = capsys.readouterr().out
    assert "how deep it is; at least 1." in out
    assert "value: 3\n  from: sample/first" in out


def test_diff_lists_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    assert config.main(["diff", "sample/first", "sample/second"]) == 1
    assert "model.backbone.depth: 3 -> 5\n" in capsys.readouterr().out


def test_diff_of_equal_configs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Config.load("sample/first").save(tmp_path / "config.yaml")
    assert config.main(["diff", "sample/first", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no difference\n"


def test_problems_reach_the_dispatcher() -> None:
    with pytest.raises(ConfigError, match=r"train\.stesp"):
        config.main(["show", "sample/first", "train.stesp=3"])


def test_models_lists_recipes_with_published_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert models.main([]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^detection\n(  .*\n)*  sample/first +the first: box AP 12.5\n", out, re.MULTILINE)
    assert re.search(r"^  sample/second +the second\n", out, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["first"], ["sample/f*"], ["--task", "detection", "sample/*st"]])
def test_models_can_be_chosen(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert models.main([*arguments, "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["sample/first"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no recipe is called 'nothing'; `detkit models` lists all"),
        (["--task", "juggling"], "no recipe for the task 'juggling'; there are recipes for: detection"),
    ],
)
def test_models_that_do_not_exist(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        models.main(arguments)


def test_models_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert models.main(["--json"]) == 0
    [first] = [each for each in json.loads(capsys.readouterr().out) if each["name"] == "sample/first"]
    assert first == {
        "name": "sample/first",
        "plugin": "sample",
        "task": "detection",
        "summary": "the first",
        "published": {"box AP": 12.5},
        "published by": "Somebody, 2020",
        "model id": None,
        "paper": None,
        "licence": {"code": "Apache-2.0"},
    }
