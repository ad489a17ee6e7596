"""Reading parts of files, wherever these are."""

from __future__ import annotations

import glob
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

OPEN_FILES = 64


@dataclass(frozen=True)
class State:
    """What a file is like now, to know whether it has changed: its size in bytes, and a word from where it is."""

    size: int
    version: str


class Files(ABC):
    """Files that are read in parts. Objects can be sent to other processes, and go on working after a fork.

    All methods raise `OSError`, saying why, if a file is missing or cannot be read.
    """

    @abstractmethod
    def read(self, location: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file from `start` on, `length` of them or all; fewer at its end only."""

    @abstractmethod
    def state(self, location: str) -> State: ...

    @abstractmethod
    def find(self, pattern: str) -> list[str]:
        """The files whose locations match a pattern with `*`, sorted."""


class LocalFiles(Files):
    """Those of this machine. The last files that parts were read of are kept open."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def __getstate__(self) -> dict[str, object]:
        return {"_open": {}}

    def __del__(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def read(self, location: str, start: int = 0, length: int | None = None) -> bytes:
        if length is None:
            with open(location, "rb") as file:
                file.seek(start)
                return file.read()
        # Reading at a place, without seeking, so that processes that were forked may share the file.
        return os.pread(self._descriptor(location), length, start)

    def _descriptor(self, location: str) -> int:
        found = self._open.pop(location, None)
        descriptor = os.open(location, os.O_RDONLY) if found is None else found
        self._open[location] = descriptor  # the last one used is the last
        if len(self._open) > OPEN_FILES:
            os.close(self._open.pop(next(iter(self._open))))
        return descriptor

    def state(self, location: str) -> State:
        found = os.stat(location)
        return State(found.st_size, str(found.st_mtime_ns))

    def find(self, pattern: str) -> list[str]:
        return sorted(glob.glob(pattern, recursive=True))


def files_at(location: str) -> Files:
    """What reads a path or a URL: http and https by Python itself, other URLs through fsspec.

    Raises:
        ValueError: fsspec is needed and not installed.
    """
    if "://" not in location:
        return LocalFiles()
    if location.startswith(("http://", "https://")):
        from detkit.data.stores.http import HttpFiles

        return HttpFiles()
    from detkit.data.stores.remote import RemoteFiles

    return RemoteFiles()


def is_url(location: str | Path) -> bool:
    """Whether this is a URL rather than a path."""
    return "://" in str(location)
