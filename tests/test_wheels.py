"""The wheels, installed into an empty environment, do the main job."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.packages import Package, closure, find_packages

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
    for name, package in PACKAGES.items():
        run(UV, "build", "--quiet", "--out-dir", folder / name, package.folder)
    return {name: next((folder / name).glob("*.whl")) for name in PACKAGES}


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
    wanted = {file.as_posix() for file in found if "__pycache__" not in file.parts}
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if name.startswith(f"{package.import_name}/")} == wanted
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_train_from_wheels(environment: Path, tmp_path: Path) -> None:
    """Two steps of the quickstart's recipe, far away from the repository."""
    detkit = environment / "detkit"
    run(detkit, "data", "make", "shapes", "--out", "shapes", "--images", "8", "--val-images", "2", cwd=tmp_path)
    run(detkit, "train", "mask-rcnn-quickstart", "data=shapes", "train.steps=2", "--out", "run", cwd=tmp_path)
    run(detkit, "predict", "run", *sorted(tmp_path.glob("shapes/val/**/*.jpg")), "--out", "found", cwd=tmp_path)
    assert (tmp_path / "run/last/model.safetensors").is_file()
    assert list(tmp_path.glob("found/**/*"))


def test_a_project_comes_and_goes(wheels: dict[str, Path], environment: Path, tmp_path: Path) -> None:
    """It trains on the packages that it builds on, and other recipes do the same before, with and after it."""
    detkit, python = environment / "detkit", environment / "python"
    run(detkit, "data", "make", "shapes", "--out", "shapes", "--images", "8", "--val-images", "2", cwd=tmp_path)

    def losses(name: str) -> list[float]:
        run(detkit, "train", "mask-rcnn-quickstart", "data=shapes", "train.steps=2", "--out", name, cwd=tmp_path)
        entries = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        return [entry["loss"] for entry in entries if "loss" in entry]

    before = losses("before")
    run(UV, "pip", "install", "--quiet", "--no-deps", "--python", python, wheels["det-pointrend"])
    run(detkit, "train", "pointrend-quickstart", "data=shapes", "train.steps=2", "--out", "pointrend", cwd=tmp_path)
    assert losses("with") == before
    run(UV, "pip", "uninstall", "--quiet", "--python", python, "det-pointrend")
    assert losses("after") == before
    with pytest.raises(AssertionError, match="pip install det-pointrend"):
        run(detkit, "train", "pointrend-quickstart", "data=shapes", "--out", "none", cwd=tmp_path)


def test_the_environment_is_free_of_the_repository(environment: Path, tmp_path: Path) -> None:
    where = run(environment / "python", "-c", "import detkit; print(detkit.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment.parent)
