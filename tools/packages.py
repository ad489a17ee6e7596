"""The distributions of this repository, found from their pyproject files; nothing lists them by hand."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Package:
    """One folder of packages/: its distribution's name, the first-party distributions it needs, and its entry point."""

    name: str
    folder: Path
    requires: frozenset[str]
    test_requires: tuple[str, ...]  # requirements of its tests beyond pytest, from its dependency group `test`
    plugin_module: str | None

    @property
    def import_name(self) -> str:
        """The one package below src/."""
        (init,) = (self.folder / "src").glob("*/__init__.py")
        return init.parent.name


def _names(requirements: Iterable[str]) -> frozenset[str]:
    return frozenset(re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0] for requirement in requirements)


def _read(folder: Path) -> Package:
    data: Mapping[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    project = data["project"]
    return Package(
        name=project["name"],
        folder=folder,
        requires=_names(project.get("dependencies", ())),
        test_requires=tuple(data.get("dependency-groups", {}).get("test", ())),
        plugin_module=project.get("entry-points", {}).get("detkit", {}).get(project["name"]),
    )


def find_packages(root: Path = ROOT) -> dict[str, Package]:
    """Distribution name -> package, sorted by name."""
    found = [_read(file.parent) for file in root.glob("packages/*/pyproject.toml")]
    return {package.name: package for package in sorted(found, key=lambda package: package.name)}


def closure(name: str, packages: Mapping[str, Package], *, tests: bool = False) -> list[Package]:
    """The package and every first-party package that it needs, directly or not; with `tests`, also those that its tests
    need."""
    wanted = {name} | (_names(packages[name].test_requires) & packages.keys() if tests else set())
    while missing := {need for each in wanted for need in packages[each].requires & packages.keys()} - wanted:
        wanted |= missing
    return [packages[each] for each in sorted(wanted)]
