"""Where the members of a tar file are in it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from detkit.data.stores.files import Files

BLOCK = 1 << 20  # bytes read at once: headers lie between images, so that most of a shard is read or jumped over
HEADER = "detkit tar index 1"


@dataclass(frozen=True)
class Member:
    """A file in a tar file: its name, and where its bytes are."""

    name: str
    offset: int
    size: int


@contextmanager
def open_tar(files: Files, location: str, size: int) -> Iterator[tarfile.TarFile]:
    """An uncompressed tar file of `size` bytes, to be walked through.

    Raises:
        OSError: then or later: it is missing, cut short or no such file.
    """
    source = io.BufferedReader(_Ranges(files, location, size), BLOCK)
    try:
        with tarfile.open(fileobj=source, mode="r:") as tar:
            yield tar
    except tarfile.TarError as error:
        raise OSError(f"it is no uncompressed tar file, or is cut short ({error})") from error


def member_name(entry: tarfile.TarInfo) -> str:
    """The name of a member without the `./` that tar puts before those of `tar cf x.tar .`."""
    return entry.name.removeprefix("./")


def read_members(files: Files, location: str, size: int) -> list[Member]:
    """The regular files of a tar file, found by walking through it. Errors are those of `open_tar`."""
    with open_tar(files, location, size) as tar:
        found = [Member(member_name(entry), entry.offset_data, entry.size) for entry in tar if entry.isreg()]
    if found and found[-1].offset + found[-1].size > size:
        raise OSError("it is cut short")
    return found


def as_text(members: list[Member], size: int) -> str:
    """An index as it is kept in a file beside the tar file: a line that says how long that is, then for each member
    where it starts, how long it is, and its name."""
    lines = (f"{member.offset}\t{member.size}\t{member.name}\n" for member in members)
    return f"{HEADER}\t{size}\n" + "".join(lines)


def from_text(text: str, size: int) -> list[Member] | None:
    """The members that `as_text` has written; None if that was for a tar file of another size, or something else."""
    first, _, rest = text.partition("\n")
    if first != f"{HEADER}\t{size}":
        return None
    rows = (line.split("\t", 2) for line in rest.split("\n") if line)
    return [Member(name, int(offset), int(length)) for offset, length, name in rows]


class _Ranges(io.RawIOBase):
    """A file of `Files` as Python's: tarfile wants one that can be sought in."""

    def __init__(self, files: Files, location: str, size: int) -> None:
        self._files = files
        self._location = location
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        data = self._files.read(self._location, self._position, length)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
