"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def write_whole(path: Path, text: str) -> None:
    """Write a text file; an earlier one stays as it is until the new one is complete and has reached the disk.

    Raises:
        OSError: it cannot be written.
    """
    partial = _partial(path)
    try:
        partial.write_text(text, encoding="utf-8")
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """The same for any file: the body writes into the binary file that it is given."""
    partial = _partial(path)
    try:
        with partial.open("wb") as file:
            yield file
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Write a folder's contents, then put it in the place of the old one, if there is one.

    The body writes into the path that it is given, a hidden sibling of `folder`. Only when it has ended without an
    error and its files have reached the disk is the sibling renamed; after an error (a full disk, say) the sibling is
    removed and `folder` is as it was. A process may be killed at any time: call `recover` before reading.

    One process at a time may write a given folder.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover(folder)
    new = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
    try:
        new.mkdir()
        yield new
        _flush(new)
        _exchange(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(_previous(folder), ignore_errors=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Write a folder that was missing or empty so far: the body writes into the path that it is given, a folder of the
    same name inside a hidden sibling. Only when it has ended without an error is that renamed; after an error, or when
    the process is killed, `folder` is as it was.

    Raises:
        ValueError: there is something in the folder already.
    """
    folder = folder.resolve()
    if folder.is_file() or not untouched(folder):
        raise ValueError(f"there is something at {folder} already; give a new folder, or remove that one")
    hidden = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)  # of a process that was killed
    try:
        new = hidden / folder.name
        new.mkdir(parents=True)
        yield new
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # a full disk does not say which
            raise OSError(error.errno, error.strerror, str(folder)) from error
        raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def untouched(folder: Path) -> bool:
    """Whether a folder is missing or empty, but for what a process that was killed had not written to its end."""
    return not folder.exists() or all(_unfinished(path) for path in folder.iterdir())


def _unfinished(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".partial")


def recover(folder: Path) -> None:
    """Bring back the old folder where a process was killed between setting it aside and renaming the new one."""
    folder = folder.resolve()
    if not folder.exists() and _previous(folder).is_dir():
        _previous(folder).rename(folder)


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _exchange(new: Path, folder: Path) -> None:
    """Python offers no call that replaces a folder that is not empty: two renames, with `recover` for the gap."""
    previous = _previous(folder)
    shutil.rmtree(previous, ignore_errors=True)
    if folder.exists():
        folder.rename(previous)
    try:
        new.rename(folder)
    except OSError:
        recover(folder)
        raise
    _sync(folder.parent)


def _flush(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, has reached the disk (Windows cannot open folders for that)."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
