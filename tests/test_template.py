"""What `detkit plugins new` writes is built, installed, checked and trained with, so that the template cannot rot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("template")  # built once
DETKIT = "import sys; from detkit.cli.main import main; sys.exit(main())"


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command that must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DETKIT_STRICT_PLUGINS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("template")


@pytest.fixture(scope="module")
def python(folder: Path) -> Path:
    """The interpreter of a new environment, in which the wheel of the new plugin is installed over the packages of this
    one."""
    uv = shutil.which("uv") or shutil.which("uv", path=sysconfig.get_path("scripts"))
    assert uv, "this test needs uv: pip install uv"
    run(sys.executable, "-c", DETKIT, "plugins", "new", "acme-swin", cwd=folder)
    project = folder / "acme-swin"
    build = (uv, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable)
    run(*build, "--out-dir", folder, project, cwd=folder)
    run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv", cwd=folder)
    found = folder / "venv" / Path(sys.executable).parent.name / "python"
    [wheel] = folder.glob("acme_swin-*.whl")
    run(uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", found, wheel, cwd=folder)
    site = Path(run(found, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return found


def test_it_keeps_every_rule(python: Path, folder: Path) -> None:
    out = run(python, "-c", DETKIT, "plugins", "check", "acme-swin", cwd=folder)
    assert "  ok    backbone acme/swin\n" in out
    assert "  ok    recipe acme/swin-quickstart\n" in out


def test_its_own_tests_pass(python: Path, folder: Path) -> None:
    """They hold it to the contracts of detkit.testing; one of them trains a step."""
    out = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "acme-swin", cwd=folder)
    assert " passed" in out


def test_it_trains_from_the_command_line(python: Path, folder: Path) -> None:
    run(python, "-c", DETKIT, "data", "make", "shapes", "--out", "shapes", "--images", "8", "--seed", "1", cwd=folder)
    arguments = "train acme/swin-quickstart data=shapes train.steps=1 train.batch_size=2 train.workers=0 --out run"
    run(python, "-c", DETKIT, *arguments.split(), cwd=folder)
    assert (folder / "run/last/model.safetensors").is_file()
    assert "acme-swin" in (folder / "run/config.yaml").read_text()
