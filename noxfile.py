"""The one entry for people and for CI: `nox -l` lists the sessions, `nox -s tests` is what CI runs.

Packages are found from their pyproject files. Every environment is made by uv from one cache, so that the second
environment with PyTorch takes seconds.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # `nox` puts its own folder on the path, not this one

from tools.packages import closure, find_packages  # noqa: E402 - needs the line above

# set in many containers: each of the many processes that import PyTorch would compile it anew, for 10 seconds
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = True

PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PACKAGES = find_packages(ROOT)


def install_group(session: nox.Session, *groups: str) -> None:
    """Install the development tools that pyproject.toml lists under these names."""
    session.install(*nox.project.dependency_groups(PROJECT, *groups))


def install_all(session: nox.Session, *groups: str) -> None:
    """Install every package of the repository, editable, what their tests need, and the tools of these groups."""
    editable = [part for package in PACKAGES.values() for part in ("-e", str(package.folder))]
    extra = {requirement for package in PACKAGES.values() for requirement in package.test_requires}
    tools = nox.project.dependency_groups(PROJECT, *groups) if groups else ()
    session.install(*editable, *sorted(extra - PACKAGES.keys()), *tools)


def build_wheels(session: nox.Session, folder: Path) -> dict[str, Path]:
    """Build the wheel of every package, from its source distribution, into a folder; distribution name -> file."""
    session.run("uv", "build", "--quiet", "--all-packages", "--clear", "--out-dir", str(folder), external=True)
    return {name: next(folder.glob(f"{name.replace('-', '_')}-*.whl")) for name in PACKAGES}


def check_style(session: nox.Session) -> None:
    """ruff: rules and format."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


def check_imports(session: nox.Session) -> None:
    """import-linter: which package may import which."""
    session.run("lint-imports")


def check_types(session: nox.Session) -> None:
    """mypy: strict on the light modules, every function typed everywhere."""
    session.run("mypy", "--num-workers", "2")


def run_pytest(session: nox.Session, *arguments: str) -> None:
    """pytest on two processes, each computing on one thread; tests marked with one xdist_group share a process."""
    session.run("pytest", "-n", "2", "--dist", "loadgroup", *arguments, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def quickstart(session: nox.Session) -> None:
    """The main job on a self-made dataset: train, evaluate and predict, within minutes."""
    install_all(session)
    session.run("python", "-m", "tools.quickstart", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Everything that must hold before a change is merged: style, imports, types, all tests but the slow ones."""
    install_all(session, "dev")
    failed = []
    for check in (check_style, check_imports, check_types, run_pytest):  # all of them, to see all that is wrong at once
        try:
            check(session)
        except CommandFailed:
            failed.append(check.__name__)
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff check and ruff format --check; `nox -s lint -- --fix` mends what can be mended."""
    install_group(session, "lint")
    if "--fix" in session.posargs:
        session.run("ruff", "check", "--fix", ".")
        session.run("ruff", "format", ".")
    else:
        check_style(session)


@nox.session
def types(session: nox.Session) -> None:
    """mypy over every package, strict on the light modules."""
    install_all(session, "types")
    check_types(session)


@nox.session
def imports(session: nox.Session) -> None:
    """import-linter: the arrows between the packages, and light modules that stay light."""
    install_all(session, "imports")
    check_imports(session)


@nox.session
@nox.parametrize("package", [nox.param(name, id=name) for name in PACKAGES])
def test(session: nox.Session, package: str) -> None:
    """Install the wheels of one package and of what it declares, nothing else, and run its tests."""
    wheels = build_wheels(session, Path(session.create_tmp()).resolve() / "wheels")
    needed = [each.name for each in closure(package, PACKAGES, tests=True)]
    others = sorted(set(PACKAGES[package].test_requires) - PACKAGES.keys())
    session.install(*(str(wheels[name]) for name in needed), *others)
    install_group(session, "test")
    run_pytest(session, str(PACKAGES[package].folder / "tests"))


@nox.session(venv_backend="none")
def wheels(session: nox.Session) -> None:
    """Build every package's wheel into dist/."""
    for name, wheel in build_wheels(session, ROOT / "dist").items():
        session.log(f"{name}: {wheel.relative_to(ROOT)}")


@nox.session
def docs(session: nox.Session) -> None:
    """The tests of the documentation: every command, option, recipe and link in it exists."""
    install_all(session, "test")
    run_pytest(session, "tests/docs")


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take minutes."""
    install_all(session, "dev")
    session.run("pytest", "-m", "slow", *session.posargs, success_codes=[0, 5])  # 5: there is none


@nox.session
def bench(session: nox.Session) -> None:
    """Speed and memory, interleaved with torchvision's detectors."""
    install_all(session)
    session.run("python", "-m", "benchmarks", *session.posargs)
