"""What the code imports is declared, so that a package works where nothing else is installed."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.packages import ROOT, Package, closure, find_packages

PACKAGES = find_packages()
PROVIDERS = packages_distributions()
BUNDLED = {"triton"}  # PyTorch brings it where it exists


def imported(folder: Path) -> Iterator[tuple[Path, str]]:
    """(file, top-level name) of every import statement below a folder, inside functions too."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            for module in modules:
                yield file, module.partition(".")[0]


def declared(package: Package, *, tests: bool = False) -> set[str]:
    """Distributions that the package and the first-party packages it needs declare. Extras count, since code imports
    those late and says what to install."""
    requirements = [package.name]
    for each in closure(package.name, PACKAGES, tests=tests):
        project = tomllib.loads((each.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        requirements += project["dependencies"]
        requirements += chain.from_iterable(project.get("optional-dependencies", {}).values())
    if tests:
        root = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        requirements += [*package.test_requires, *root["dependency-groups"]["test"]]
    return {canonicalize_name(Requirement(each).name) for each in requirements}


def undeclared(folder: Path, allowed: set[str]) -> list[str]:
    own = {path.stem for path in folder.rglob("*") if path.is_dir() or path.suffix == ".py"}  # plugins that tests bring
    found = set()
    for file, name in imported(folder):
        providers = {canonicalize_name(each) for each in PROVIDERS.get(name, [])}
        if name not in sys.stdlib_module_names | BUNDLED | own and not providers & allowed:
            found.add(f"{file.relative_to(ROOT)}: {name}")
    return sorted(found)


@pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES)
def test_sources_import_what_is_declared(package: Package) -> None:
    assert not undeclared(package.folder / "src", declared(package))


@pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES)
def test_tests_import_what_is_declared(package: Package) -> None:
    """They run where only the package, what it needs and its dependency group `test` are installed."""
    assert not undeclared(package.folder / "tests", declared(package, tests=True))
