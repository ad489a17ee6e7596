"""Finding the distributions and what they need."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.packages import closure, find_packages


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of three packages: app needs library and a stranger; library's tests need app."""
    projects = {
        "library": '[project]\nname = "det-library"\n[dependency-groups]\ntest = ["det-app", "stranger>=1"]\n',
        "app": '[project]\nname = "det-app"\ndependencies = ["det-library >=0.1,<0.2", "stranger[extra]>=2"]\n'
        '[project.entry-points.detkit]\ndet-app = "det_app.detkit_plugin"\n',
        "loner": '[project]\nname = "det-loner"\n',
    }
    for folder, text in projects.items():
        source = tmp_path / "packages" / folder / "src" / f"det_{folder}"
        source.mkdir(parents=True)
        (source / "__init__.py").touch()
        (tmp_path / "packages" / folder / "pyproject.toml").write_text(text)
    return tmp_path


def test_packages_are_found_sorted_by_name(root: Path) -> None:
    assert list(find_packages(root)) == ["det-app", "det-library", "det-loner"]


def test_a_package_knows_its_names(root: Path) -> None:
    package = find_packages(root)["det-app"]
    assert package.import_name == "det_app"
    assert package.plugin_module == "det_app.detkit_plugin"
    assert package.requires == {"det-library", "stranger"}


def test_closure_holds_what_a_package_needs(root: Path) -> None:
    assert [each.name for each in closure("det-app", find_packages(root))] == ["det-app", "det-library"]
    assert [each.name for each in closure("det-library", find_packages(root))] == ["det-library"]


def test_closure_with_tests_holds_what_its_tests_need(root: Path) -> None:
    assert [each.name for each in closure("det-library", find_packages(root), tests=True)] == ["det-app", "det-library"]
