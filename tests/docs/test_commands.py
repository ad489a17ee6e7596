"""Every command in the documentation can be typed: commands, options, recipes, sessions and packages exist."""

from __future__ import annotations

import ast
import re

import pytest

from detkit.cli.main import main
from detkit.config import Config
from tools.packages import ROOT, find_packages

PLACES = ("/", ".", "=")  # a word with one of them is a path or an override, not a recipe's name
NOXFILE = (ROOT / "noxfile.py").read_text(encoding="utf-8")


def test_detkit_commands_exist_with_their_options(detkit_words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = [word.partition("=")[0] for word in detkit_words if word.startswith("-")]
    first = detkit_words.index(options[0]) if options else len(detkit_words)
    assert main([*detkit_words[:first], "--help"]) == 0
    described = capsys.readouterr().out
    unknown = [option for option in options if not re.search(rf"(?<!\S){re.escape(option)}\b", described)]
    assert [option for option in unknown if "." not in option] == []  # --train.steps overrides the config


def test_recipes_exist_and_take_the_changes(detkit_words: list[str]) -> None:
    position = {"train": 1, "config": 2}.get(detkit_words[0], len(detkit_words))
    for name in detkit_words[position : position + 1]:
        if not name.startswith("-") and name != name.upper() and not any(mark in name for mark in PLACES):
            config = Config.load(name, [word for word in detkit_words if "=" in word])
            config.build("train")


def test_nox_sessions_exist(nox_words: list[str]) -> None:
    functions = [node for node in ast.parse(NOXFILE).body if isinstance(node, ast.FunctionDef)]
    sessions = {each.name for each in functions if any("session" in ast.unparse(mark) for mark in each.decorator_list)}
    if "-s" in nox_words:
        name, _, parameter = nox_words[nox_words.index("-s") + 1].rstrip(")").partition("(")
        assert name in sessions
        assert not parameter or parameter in find_packages()


def test_first_party_requirements_exist(pip_words: list[str]) -> None:
    assert {re.split(r"[\[<>=]", word)[0] for word in pip_words if word.startswith("det-")} <= find_packages().keys()
    assert [word for word in pip_words if word.startswith("./") and not (ROOT / word / "pyproject.toml").exists()] == []


def test_tools_exist(tool: str) -> None:
    assert (ROOT / tool.replace(".", "/")).with_suffix(".py").is_file()
