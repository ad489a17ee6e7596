from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from detkit.cli.plugins import main
from detkit.plugins import Registry, use_registry
from detkit.plugins.discovery import installed
from detkit.testing.template import write_plugin


def test_list_shows_plugins_and_components(sample: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "sample 0.1  loaded" in lines
    assert "  backbone            sample/plain" in lines


def test_list_of_one_kind_for_programs(sample: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--kind", "neck", "--json"]) == 0
    [found] = [each for each in json.loads(capsys.readouterr().out) if each["name"] == "sample"]
    assert (found["state"], found["version"], found["problem"]) == ("loaded", "0.1", "")
    assert [each["name"] for each in found["components"]] == ["sample/neck"]


def test_list_of_an_unknown_kind_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--kind", "nekc"]) == 2
    assert "there is no kind 'nekc'; the kinds are detector, backbone, neck" in capsys.readouterr().err


def test_check_names_each_rule_and_fails_on_a_broken_one(
    install_plugin: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    install_plugin("acme-broken", "import not_there")
    with use_registry(Registry(installed())):
        assert main(["check", "Acme_Broken"]) == 1
    assert capsys.readouterr().out == (
        "acme-broken 0.1\n"
        "  ok    it is installed once\n"
        "  FAIL  its module loads and keeps the contract: broken: ModuleNotFoundError: No module named 'not_there'\n"
        "1 rules broken\n"
    )


def test_core_keeps_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "det-core"]) == 0, capsys.readouterr().out


def test_check_of_an_unknown_plugin_suggests_near_ones() -> None:
    with pytest.raises(ValueError, match=r"no plugin is called 'det-cor'; did you mean 'det-core'"):
        main(["check", "det-cor"])


def test_new_writes_a_plugin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "acme-swin", "--out", str(tmp_path / "swin")]) == 0
    assert f"wrote {tmp_path / 'swin'}" in capsys.readouterr().out
    assert (tmp_path / "swin/src/acme_swin/swin.py").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("9lives", "cannot be a distribution's name"),
        ("det-swin", "names that begin with det- are this project's own"),
        ("acme-3d", "must begin with a letter"),
    ],
)
def test_new_refuses_names_that_cannot_work(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_plugin(name, tmp_path / "new")


def test_new_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("precious")
    with pytest.raises(ValueError, match="is not empty"):
        write_plugin("acme-swin", tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["work.py"]
