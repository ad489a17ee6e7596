from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from detkit.plugins import KINDS, Component, Registry, checking, hookimpl, use_registry
from detkit.plugins.checking import check_component, check_plugin
from detkit.plugins.discovery import installed
from detkit.plugins.interfaces import INTERFACES

Install = Callable[..., Path]

PLUGIN = """
    from detkit.plugins import Component, hookimpl

    @hookimpl
    def detkit_components():
        return [Component(kind="schedule", name="acme/flat", target="acme_net.flat:Flat")]
"""
FLAT = '''
    from detkit.interfaces import Schedule

    class Flat(Schedule):
        """Flat.

        Args:
            level: how high.
        """

        def __init__(self, *, level: float = 1.0) -> None:
            self.level = level

        def factor(self, step, steps):
            return self.level
'''


def problems(name: str) -> dict[str, str]:
    """Rule -> problem, of the rules that an installed plugin breaks."""
    registry = Registry(installed())
    [info] = [info for info in registry.plugins() if info.name == name]
    with use_registry(registry):
        return {rule: problem for rule, problem in check_plugin(registry, info) if problem}


def with_flat(install: Install, flat: str) -> str:
    """What is wrong with a component of this source."""
    install("acme-net", PLUGIN, files={"acme_net/flat.py": flat})
    importlib.invalidate_caches()
    return problems("acme-net").get("schedule acme/flat", "")


def test_a_good_component_keeps_every_rule(install_plugin: Install) -> None:
    assert with_flat(install_plugin, FLAT) == ""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("Flat(Schedule)", "Flat", "is not a subclass of detkit.interfaces.Schedule"),
        ("def factor", "def other", "does not implement factor"),
        ("level: how high.", "", "argument 'level' is not described under `Args:`"),
        ("level: float = 1.0", "level: complex = 1j", "argument 'level' is a complex, which a config cannot hold"),
        ("level: float = 1.0", "level: Level = 1", "its arguments must be imported at run time"),
        ("level: float = 1.0", "level: float = 1.0, **rest: int", "takes *args or **kwargs"),
        ("class Flat", "class Other", "cannot be imported"),
    ],
)
def test_a_faulty_component_is_reported(install_plugin: Install, old: str, new: str, problem: str) -> None:
    source = FLAT.replace(old, new)
    if "Level" in new:
        source = "    from __future__ import annotations\n" + source
    assert problem in with_flat(install_plugin, source)


@pytest.mark.parametrize(("member", "wrong"), [("model", False), ("level", True), ("modle", True)])
def test_a_familys_member_is_an_argument_that_takes_text(install_plugin: Install, member: str, wrong: bool) -> None:
    plugin = PLUGIN.replace('acme_net.flat:Flat"', f'acme_net.flat:Flat", member="{member}"')
    flat = FLAT.replace("level: how high.", "level: how high.\n            model: which.").replace(
        "*,", "*, model: str,"
    )
    install_plugin("acme-net", plugin, files={"acme_net/flat.py": flat})
    importlib.invalidate_caches()
    assert bool(problems("acme-net").get("schedule acme/flat")) == wrong


def test_a_heavy_module_and_missing_metadata_are_reported(
    install_plugin: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install_plugin("acme-net", "import PIL" + PLUGIN.replace("\n    ", "\n"))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    found = problems("acme-net")
    assert "it imports PIL" in found["its module imports nothing heavy"]
    assert "its requirement is missing" in found["it requires det-core with a lower and an upper bound"]
    assert "no file py.typed in acme_net" in found["it publishes its types (py.typed)"]


def test_a_name_taken_by_another_plugin_is_reported(install_plugin: Install) -> None:
    install_plugin("acme-net", PLUGIN, files={"acme_net/flat.py": FLAT})
    install_plugin("other-net", PLUGIN)
    assert problems("acme-net")["schedule acme/flat"] == "several plugins provide it: acme-net, other-net"


def test_two_installed_versions_are_reported(install_plugin: Install, tmp_path: Path) -> None:
    folder = install_plugin("acme-net", PLUGIN, files={"acme_net/flat.py": FLAT})
    old = folder / "acme_net-0.0.dist-info/METADATA"
    old.parent.mkdir()
    old.write_text("Metadata-Version: 2.1\nName: acme-net\nVersion: 0.0\n")
    assert "several versions are installed" in problems("acme-net")["it is installed once"]


def test_a_plugin_that_does_not_load_says_why(install_plugin: Install) -> None:
    install_plugin("acme-net", "import not_there")
    assert problems("acme-net") == {
        "its module loads and keeps the contract": "broken: ModuleNotFoundError: No module named 'not_there'"
    }


def test_every_interface_is_of_its_kind() -> None:
    assert INTERFACES.keys() <= KINDS.keys()
    for kind, target in INTERFACES.items():
        module, _, name = target.partition(":")
        assert getattr(importlib.import_module(module), name).kind == kind


@pytest.mark.parametrize(("user", "problem"), [("not_installed", ""), ("detkit", "cannot be imported")])
def test_what_only_another_package_uses_is_checked_where_that_is_installed(
    plugins: Registry, monkeypatch: pytest.MonkeyPatch, user: str, problem: str
) -> None:
    monkeypatch.setattr(checking, "USERS", {"detectron2_mapping": user})
    component = Component(kind="detectron2_mapping", name="acmehead", target="acme_of_nobody:HEAD")
    plugins.register(SimpleNamespace(detkit_components=hookimpl(lambda: [component])), "acme-net")
    assert problem in check_component(plugins, component)
    assert bool(problem) == bool(check_component(plugins, component))
