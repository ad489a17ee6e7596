"""A limited local copy of what is read from far away."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

SCAN = 64  # the folder is looked through whenever this part of the limit has been written
ROOM = 0.9  # of the limit is left filled then, if it was exceeded


class LocalCopies:
    """Keeps what is read in a folder, and throws away what was not used for longest when that is full.

    Several processes may use one folder.

    Args:
        folder: for the copies; nothing else may be in it.
        limit: bytes that the folder may hold; it may exceed that by a 64th for each process that writes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._unseen = limit  # bytes written since the folder was looked through; at first nothing is known

    def get(self, key: str, read: Callable[[], bytes]) -> bytes:
        """What has been kept under a key, else what `read` gives, which is kept then."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        path = self.folder / digest[:2] / digest[2:]
        try:
            data = path.read_bytes()
            os.utime(path)  # it was used now
            return data
        except OSError:
            data = read()
        if len(data) <= self.limit / SCAN:  # what is larger would push out too much else
            try:
                self._keep(path, data)
            except OSError as error:
                log.warning("%s is not kept in %s: %s", key, self.folder, error)
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(partial, path)
        except OSError:
            Path(partial).unlink(missing_ok=True)
            raise
        self._unseen += len(data)
        if self._unseen > self.limit / SCAN:
            self._make_room()
            self._unseen = 0

    def _make_room(self) -> None:
        found = []
        for folder in self.folder.iterdir():
            for entry in os.scandir(folder):
                try:
                    state = entry.stat()
                except FileNotFoundError:  # another process has removed it
                    continue
                found.append((state.st_mtime_ns, state.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        if total <= self.limit:
            return
        for _, size, path in sorted(found):
            Path(path).unlink(missing_ok=True)
            total -= size
            if total <= self.limit * ROOM:
                break


def bytes_of(size: str) -> int:
    """The number of bytes of "50GB", "500 MB", "1.5TB" or "1000".

    Raises:
        ValueError: it is no size.
    """
    match = re.fullmatch(r"\s*([\d.]+)\s*([kMGT]?)B?\s*", size)
    try:
        return int(float(match[1]) * 1000 ** " kMGT".index(match[2] or " ")) if match else int(size)
    except ValueError:
        raise ValueError(f"{size!r} is no size; write, say, 50GB") from None
