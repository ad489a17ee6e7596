"""House rules of the repository that no other tool checks."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tools.packages import ROOT, Package, find_packages

PACKAGES = find_packages()
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]

SOFT_LIMIT, HARD_LIMIT, LOOP_LIMIT = 400, 600, 200  # lines
LONG_FILES: dict[str, str] = {}  # over the soft limit: path -> why it holds one thing all the same

MACHINE_PATH = re.compile(r"(?<![\w./<{$~*-])/(?:home|Users|root|work|mnt|media)/[\w.-]")
HUGE = 500_000  # bytes; test data is generated


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """Every file that git tracks, or would."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [path for path in (ROOT / name for name in sorted(set(names))) if path.is_file()]


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def test_files_are_short(files: list[Path]) -> None:
    """A file holds one thing: 400 lines at most, 600 with a reason in LONG_FILES."""
    counts = {path.relative_to(ROOT).as_posix(): lines(path) for path in files if path.suffix == ".py"}
    long = {name: count for name, count in counts.items() if count > SOFT_LIMIT}
    assert {name: count for name, count in long.items() if count > HARD_LIMIT or name not in LONG_FILES} == {}
    assert LONG_FILES.keys() <= long.keys(), "a reason is out of date"


def test_the_training_loop_is_short() -> None:
    assert lines(ROOT / "packages/core/src/detkit/engine/loop.py") <= LOOP_LIMIT


def test_no_file_names_a_path_of_somebodys_machine(files: list[Path]) -> None:
    found = []
    for path in files:
        text = path.read_bytes().decode("utf-8", errors="ignore")
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in MACHINE_PATH.finditer(text)]
    assert not found


def test_no_file_is_huge(files: list[Path]) -> None:
    assert not [path for path in files if path.stat().st_size > HUGE]


def test_every_package_has_the_same_version() -> None:
    """First-party distributions are released together, under one number."""
    files = [package.folder / "pyproject.toml" for package in PACKAGES.values()]
    versions = {tomllib.loads(file.read_text(encoding="utf-8"))["project"]["version"] for file in files}
    assert len(versions) == 1


def test_the_settings_of_the_tools_cover_every_package() -> None:
    """uv, mypy and import-linter cannot find packages by themselves."""
    sources = [f"{each.folder.relative_to(ROOT).as_posix()}/src" for each in PACKAGES.values()]
    assert SETTINGS["uv"]["sources"].keys() == PACKAGES.keys()
    assert sorted(SETTINGS["mypy"]["mypy_path"]) == sorted(sources)
    assert sorted(SETTINGS["importlinter"]["root_packages"]) == sorted(each.import_name for each in PACKAGES.values())


@pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES)
def test_package_is_complete(package: Package) -> None:
    """Types published, licence shipped, plugin registered under the distribution's name, tests and README present."""
    source = package.folder / "src" / package.import_name
    assert (source / "py.typed").is_file()
    assert (package.folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert package.plugin_module == f"{package.import_name}.detkit_plugin"
    assert (source / "detkit_plugin.py").is_file()
    assert list((package.folder / "tests").glob("**/test_*.py"))
    assert len((package.folder / "README.md").read_text(encoding="utf-8").splitlines()) > 5
