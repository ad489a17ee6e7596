"""The quickstart runs through, on next to nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from detkit.testing.processes import Job, detkit
from tools.quickstart import main

pytestmark = pytest.mark.xdist_group("processes")  # forked from one


@pytest.fixture(autouse=True)
def forked_commands(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The commands run in processes that need not import torch anew."""

    def run(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        assert command[0] == "detkit"
        return Job(detkit, *command[1:], folder=tmp_path_factory.mktemp("process"), environment=os.environ).wait()

    monkeypatch.setattr(subprocess, "run", run)


def test_everything_that_it_promises_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "quickstart"
    main(["--out", str(out), "--images", "8", "train.steps=2"])
    closing = capsys.readouterr().out.rpartition("Everything is in")[2]
    promised = [line.split()[0] for line in closing.splitlines() if line.startswith(f"  {out}")]
    assert [path for path in promised if not Path(path).exists()] == []
    assert {"shapes", "run", "predictions"} <= {Path(path).name for path in promised}
    assert list((out / "predictions").glob("*.png"))


def test_it_stops_at_the_first_command_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path), "--images", "2", "train.stepz=2"])
    assert stop.value.code == 2
    assert "$ detkit eval" not in capsys.readouterr().out
