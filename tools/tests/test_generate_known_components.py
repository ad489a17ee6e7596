"""The table of component names and the packages that provide them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from detkit.plugins import Component
from tools.generate_known_components import known_components, main
from tools.packages import Package


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Package]:
    """A package whose plugin module declares one backbone."""
    module = ModuleType("det_fake_plugin")
    backbone = Component(kind="backbone", name="fake", target="det_fake:Fake")
    module.detkit_components = lambda: [backbone]  # type: ignore[attr-defined]
    sys.modules["det_fake_plugin"] = module
    yield Package("det-fake", tmp_path, frozenset(), (), "det_fake_plugin")
    del sys.modules["det_fake_plugin"]


def test_the_stored_table_is_current() -> None:
    """If it is not, run: python -m tools.generate_known_components"""
    assert main(["--check"]) == 0


def test_the_table_names_the_distribution(package: Package) -> None:
    assert known_components([package]) == {"backbone": {"fake": "det-fake"}}


def test_two_packages_with_one_name_are_refused(package: Package) -> None:
    with pytest.raises(ValueError, match="det-fake and det-other both declare backbone 'fake'"):
        known_components([package, replace(package, name="det-other")])


def test_check_reports_an_old_table_and_leaves_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "known.json"
    table.write_text("{}\n")
    assert main(["--check"], table) == 1
    assert "run: python -m tools.generate_known_components" in capsys.readouterr().err
    assert table.read_text() == "{}\n"


def test_writing_makes_the_check_pass(tmp_path: Path) -> None:
    table = tmp_path / "known.json"
    assert main([], table) == 0
    assert main(["--check"], table) == 0
