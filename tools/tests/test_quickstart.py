"""The quickstart runs through, on next to nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.quickstart import main


def test_everything_that_it_promises_is_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "quickstart"
    main(["--out", str(out), "--images", "8", "train.steps=2"])
    closing = capfd.readouterr().out.rpartition("Everything is in")[2]
    promised = [line.split()[0] for line in closing.splitlines() if line.startswith(f"  {out}")]
    assert [path for path in promised if not Path(path).exists()] == []
    assert {"shapes", "run", "predictions"} <= {Path(path).name for path in promised}
    assert list((out / "predictions").glob("*.png"))


def test_it_stops_at_the_first_command_that_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path), "--images", "2", "train.stepz=2"])
    assert stop.value.code == 2
    assert "$ detkit eval" not in capfd.readouterr().out
