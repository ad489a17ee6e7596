from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from detkit.atomic import new_folder, write_whole

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from detkit.atomic import write_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(Path(sys.argv[1]), "x" * 5000)
except OSError as error:
    print(error)
"""


def test_a_file_is_replaced(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "old")
    write_whole(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path / "a.json"], capture_output=True, text=True)
    assert "File too large" in done.stdout
    assert (tmp_path / "a.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_new_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_folder(out) as folder:
        assert folder.name == "out"
        (folder / "file").write_text("x")
        assert not out.exists()
    assert (out / "file").read_text() == "x"
    assert list(out.parent.iterdir()) == [out]


def test_a_new_folder_may_be_there_and_empty(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("x")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_a_new_folder_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(ValueError, match="there is something at"), new_folder(place):
            pass
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"No space left on device: .*{tmp_path.name}"), new_folder(tmp_path / "new"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []
