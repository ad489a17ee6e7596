from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from detkit.plugins import PluginError, PluginInfo, Registry
from detkit.plugins.discovery import canonical, installed

Install = Callable[..., Path]

GOOD = """
    from detkit.plugins import Component, hookimpl

    @hookimpl
    def detkit_components():
        return [Component(kind="backbone", name="acme/net", target="nowhere:Net")]
"""


def state(name: str) -> PluginInfo:
    """What becomes of one installed plugin."""
    [info] = [info for info in Registry(installed()).plugins() if info.name == name]
    return info


def test_an_installed_plugin_is_loaded(install_plugin: Install) -> None:
    install_plugin("acme-net", GOOD, version="1.2")
    info = state("acme-net")
    assert (info.state, info.version, info.module) == ("loaded", "1.2", "acme_net.detkit_plugin")
    assert [component.name for component in info.components] == ["acme/net"]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("def f(:", "SyntaxError"),
        (GOOD.replace("components", "component"), "unknown hook 'detkit_component'"),
        (GOOD.replace("components()", "components(unasked)"), "unasked"),
        (GOOD.replace("@hookimpl", "@hookimpl(wrapper=True)").replace("return", "yield"), "is a wrapper"),
        (GOOD.replace("acme/net", "net"), "'acme/net'"),
        (GOOD.replace("acme/net", "Acme Net"), "lower-case"),
        (GOOD.replace("backbone", "spine"), "it knows: detector, backbone"),
        (GOOD.replace("nowhere:Net", "nowhere.Net"), "must look like 'package.module:attribute'"),
        (GOOD.replace("[C", "['x', C"), "must answer Component objects"),
        (GOOD.replace("[Component(", "2 * [Component("), "declared twice"),
    ],
)
def test_a_plugin_that_breaks_the_contract_is_broken_and_says_why(
    install_plugin: Install, source: str, problem: str
) -> None:
    install_plugin("acme-net", source)
    info = state("acme-net")
    assert info.state == "broken"
    assert problem in info.problem
    assert "\n" not in info.problem


def test_others_load_beside_a_broken_plugin(install_plugin: Install, caplog: pytest.LogCaptureFixture) -> None:
    install_plugin("acme-broken", "import not_there")
    install_plugin("acme-net", GOOD)
    with caplog.at_level(logging.WARNING, "detkit"):
        registry = Registry(installed())
    assert registry.names("backbone").count("acme/net") == 1
    [line] = [record.getMessage() for record in caplog.records if "acme" in record.getMessage()]
    assert line == (
        "plugin acme-broken did not load: ModuleNotFoundError: No module named 'not_there' "
        "(see: detkit plugins check acme-broken)"
    )


def test_a_broken_plugin_leaves_no_hook_behind(install_plugin: Install) -> None:
    source = GOOD.replace("acme/net", "net") + "    @hookimpl\n    def detkit_environment():\n        return {}\n"
    install_plugin("acme-net", source)
    implementations = Registry(installed()).manager.hook.detkit_environment.get_hookimpls()
    assert "acme-net" not in [each.plugin_name for each in implementations]


def test_strictness_turns_a_broken_plugin_into_an_error(
    install_plugin: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin("acme-broken", "import not_there")
    monkeypatch.setenv("DETKIT_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match="plugin acme-broken did not load: ModuleNotFoundError"):
        Registry(installed())


def test_a_disabled_plugin_is_not_imported(install_plugin: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugin("acme-broken", "raise SystemExit('imported')")
    monkeypatch.setenv("DETKIT_DISABLE_PLUGINS", "other, Acme_Broken ")
    assert (state("acme-broken").state, state("acme-broken").error) == ("disabled", None)


def test_another_api_version_is_incompatible(install_plugin: Install) -> None:
    install_plugin("acme-net", f"DETKIT_API = 2\n{GOOD.replace('    ', '', 1)}".replace("\n    ", "\n"))
    info = state("acme-net")
    assert info.state == "incompatible"
    assert info.problem.startswith("it speaks plugin API 2, this det-core speaks 1")


def test_the_entry_point_must_have_the_name_of_its_distribution(install_plugin: Install) -> None:
    install_plugin("acme-net", GOOD, key="net")
    assert "belongs to the distribution 'acme-net'" in state("net").problem


def test_short_names_are_for_distributions_of_this_project(install_plugin: Install) -> None:
    install_plugin("det-net", GOOD.replace("acme/net", "net"))
    assert state("det-net").state == "loaded"


@pytest.mark.parametrize(("kind", "name"), [("uri_scheme", "s3"), ("detectron2_mapping", "acmehead")])
def test_what_others_have_named_needs_no_prefix(install_plugin: Install, kind: str, name: str) -> None:
    install_plugin("acme-net", GOOD.replace("acme/net", name).replace("backbone", kind))
    assert state("acme-net").state == "loaded"


def test_heavy_imports_are_noticed(install_plugin: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(__import__("sys").modules, "cv2", raising=False)
    install_plugin("acme-net", "import cv2", files={"cv2.py": ""})
    assert state("acme-net").heavy == ("cv2",)


def test_names_compare_as_package_indexes_do() -> None:
    assert canonical("Acme_Swin.v2") == "acme-swin-v2"
