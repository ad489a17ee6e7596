from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from detkit.config import Config, ConfigError, Problem
from detkit.plugins import Registry, use_registry
from detkit.plugins.discovery import installed

pytestmark = pytest.mark.usefixtures("sample")


def test_a_saved_config_reads_back_equal(tmp_path: Path) -> None:
    config = Config.load("sample/second", ["train.optimizer.lr=1e-5", "data='1e3'", "about.note={a: ünï, b: '1'}"])
    config.save(tmp_path / "config.yaml")
    again = Config.load(tmp_path / "config.yaml")
    assert again == config
    assert again.get("data") == "1e3"
    assert Config.load("sample/second") != config


def test_a_saved_config_records_the_plugins(tmp_path: Path) -> None:
    Config.load("sample/first").save(tmp_path / "config.yaml")
    recorded = yaml.safe_load((tmp_path / "config.yaml").read_text())["plugins"]
    assert recorded["sample"] == "0.1"
    assert Config.load(tmp_path / "config.yaml").recorded == recorded


def test_a_plugin_that_has_gone_is_named_beside_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    Config.load("sample/first").save(path)
    path.write_text(path.read_text().replace("sample/plain", "gone/net").replace("{det", "{gone: 1.0.0, det"))
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    assert caught.value.problems[-1] == Problem("plugins", "it was written with gone, not installed here")


def test_a_resolved_config_has_nothing_left_to_merge() -> None:
    tree = Config.load("sample/second").tree
    assert "base" not in tree
    assert Config.load(tree) == Config.load("sample/second")


@pytest.mark.parametrize(
    ("requires", "problem"),
    [
        ("no-such-thing>=1", "requires.0: no-such-thing>=1 is not installed: pip install 'no-such-thing>=1'"),
        ("torch>=99", "is installed: pip install -U 'torch>=99'"),
        ("???", "requires.0: '???' is not a requirement"),
    ],
)
def test_requirements_are_checked(requires: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load("sample/first", [f"requires=['{requires}']"])
    assert problem in str(caught.value)


def test_requirements_that_are_met_pass() -> None:
    assert Config.load("sample/first", ["requires=['torch>=2']"]).get("requires") == ["torch>=2"]


def test_plugins_check_the_resolved_config(sample: Registry) -> None:
    from detkit.plugins import hookimpl

    class Plugin:
        @staticmethod
        @hookimpl
        def detkit_check_config(config: Config) -> list[Problem]:
            return [Problem("train.steps", f"{config.get('train.steps')} is too short")]

    sample.register(Plugin, "acme")
    with pytest.raises(ConfigError, match=r"train.steps: 10 is too short \(plugin acme\)"):
        Config.load("sample/first")


def test_a_path_that_is_not_there_suggests_near_ones() -> None:
    with pytest.raises(ConfigError, match=r"train.stesp: the config has no 'stesp' there; did you mean 'steps'\?"):
        Config.load("sample/first").get("train.stesp")


def test_config_errors_can_cross_processes() -> None:
    error = ConfigError([Problem("a", "b")], "c")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problems) == ("c: a: b", (Problem("a", "b"),))


def test_installing_a_plugin_changes_no_config(install_plugin: Callable[..., Path]) -> None:
    before = Config.load("sample/first").tree
    source = """
        from detkit.plugins import Component, hookimpl

        @hookimpl
        def detkit_components():
            return [Component(kind="backbone", name="acme/plain", target="sample.parts:Plain")]
    """
    install_plugin("acme-net", source)
    with use_registry(Registry(installed())) as registry:
        assert "acme/plain" in registry.names("backbone")
        assert Config.load("sample/first").tree == before
