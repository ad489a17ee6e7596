"""The wheels, installed into an empty environment, do the main job."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.packages import ROOT, Package, closure, find_packages

PACKAGES = find_packages()
pytestmark = pytest.mark.xdist_group("wheels")  # built once
UV = shutil.which("uv") or "uv"


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """A command's output; fails the test with all that it printed."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Distribution name -> wheel, built from its source distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    run(UV, "build", "--quiet", "--all-packages", "--out-dir", folder, ROOT)
    return {name: next(folder.glob(f"{name.replace('-', '_')}-*.whl")) for name in PACKAGES}


@pytest.fixture(scope="module")
def environment(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of executables of an environment that holds det-core, det-heads and what they need, nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    run(UV, "venv", "--quiet", "--python", sys.executable, folder)
    needed = [wheels[package.name] for package in closure("det-heads", PACKAGES)]
    run(UV, "pip", "install", "--quiet", "--python", folder, *needed)
    return folder / ("Scripts" if sys.platform == "win32" else "bin")


@pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES)
def test_wheel_runs_anywhere_and_holds_every_source_file(wheels: dict[str, Path], package: Package) -> None:
    wheel = wheels[package.name]
    assert wheel.name.endswith("-py3-none-any.whl")
    source = package.folder / "src"
    found = [file.relative_to(source) for file in (source / package.import_name).rglob("*") if file.is_file()]
    wanted = {
        file.as_posix() for file in found if not any(part.startswith((".", "__pycache__")) for part in file.parts)
    }
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if name.startswith(f"{package.import_name}/")} == wanted
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.fixture(scope="module")
def elsewhere(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder far away from the repository, with a dataset."""
    folder = tmp_path_factory.mktemp("elsewhere")
    detkit, options = environment / "detkit", ("--images", "8", "--val-images", "2")
    run(detkit, "data", "make", "shapes", "--out", "shapes", *options, cwd=folder)
    return folder


def train(environment: Path, recipe: str, folder: Path, out: str) -> list[float]:
    """The losses of two steps."""
    run(environment / "detkit", "train", recipe, "data=shapes", "train.steps=2", "--out", out, cwd=folder)
    entries = map(json.loads, (folder / out / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [entry["loss"] for entry in entries if "loss" in entry]


@pytest.fixture(scope="module")
def losses(environment: Path, elsewhere: Path) -> list[float]:
    """Of two steps of the quickstart's recipe, which leave `run`."""
    return train(environment, "mask-rcnn-quickstart", elsewhere, "run")


def test_train_from_wheels(environment: Path, elsewhere: Path, losses: list[float]) -> None:
    images = sorted(elsewhere.glob("shapes/val/**/*.jpg"))
    run(environment / "detkit", "predict", "run", *images, "--out", "found", cwd=elsewhere)
    assert losses
    assert (elsewhere / "run/last/model.safetensors").is_file()
    assert list(elsewhere.glob("found/**/*"))


def test_a_project_comes_and_goes(
    wheels: dict[str, Path], environment: Path, elsewhere: Path, losses: list[float]
) -> None:
    """It trains on the packages that it builds on, and other recipes do the same before, with and after it."""
    python = environment / "python"
    run(UV, "pip", "install", "--quiet", "--no-deps", "--python", python, wheels["det-pointrend"])
    assert train(environment, "pointrend-quickstart", elsewhere, "pointrend")
    assert train(environment, "mask-rcnn-quickstart", elsewhere, "with") == losses
    run(UV, "pip", "uninstall", "--quiet", "--python", python, "det-pointrend")
    assert train(environment, "mask-rcnn-quickstart", elsewhere, "after") == losses
    with pytest.raises(AssertionError, match="pip install det-pointrend"):
        train(environment, "pointrend-quickstart", elsewhere, "none")


def test_the_environment_is_free_of_the_repository(environment: Path, tmp_path: Path) -> None:
    where = run(environment / "python", "-c", "import detkit; print(detkit.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment.parent)
