"""What evaluators keep of each image, on disk: memory does not grow with the number of images."""

from __future__ import annotations

import os
import struct
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

State = bytes | str
"""Of `ResultLog.state`: the records themselves, or the path of a file that holds them."""

_ARRAY = 1  # the extension type of msgpack that stands for arrays
_LENGTHS = struct.Struct("<QQ")  # before each entry: bytes of the id, bytes of the record
_CHUNK = 1 << 20


class ResultLog:
    """A log of one record for each image, in a temporary file without a name: it goes with this object, with the
    process, and with a crash. What stays in memory is where each record lies, about 100 bytes an image.

    A record is a mapping from names to None, bool, int, float, str, bytes, lists and dicts of them, and NumPy arrays of
    numbers. Arrays come back read-only, tuples as lists.

        log = ResultLog()
        log.append(info["image_id"], {"boxes": boxes, "scores": scores})
        for image_id, record in log.items():
            ...

    An evaluator of several processes gives `state()` of its log as (part of) its own, and `merge`s those of all
    processes in the first one. The file of the log whose state it is must live until then, as in
    `detkit.evaluation.evaluate`.

    Args:
        folder: where the file is; the system's temporary folder by default (of the environment variable TMPDIR). Give
            one that all machines share for a run on several: their logs are then read from there, else sent whole
            through the memory of the first process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._close: Callable[[], Any] = _nothing
        self._start()

    def _start(self) -> None:
        self._close()
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=self._folder, prefix="detkit-")  # noqa: SIM115 - lives on
        self._close = weakref.finalize(self, self._file.close)
        self._places: dict[int | str, tuple[int, int]] = {}  # of records: where they start, how long they are

    def append(self, image_id: int | str, record: Mapping[str, Any]) -> None:
        """Add the record of an image. One that it had before is replaced.

        Raises:
            OSError: it cannot be written.
        """
        self._write(image_id, msgspec.msgpack.encode(dict(record), enc_hook=_encoded))

    def _write(self, image_id: int | str, record: bytes) -> None:
        key = msgspec.msgpack.encode(image_id)
        start = self._file.seek(0, os.SEEK_END) + _LENGTHS.size + len(key)
        self._file.write(_LENGTHS.pack(len(key), len(record)) + key + record)
        self._places[image_id] = start, len(record)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._places)

    def __contains__(self, image_id: int | str) -> bool:
        return image_id in self._places

    def __iter__(self) -> Iterator[int | str]:
        """The ids of images, rising, so that nothing depends on which process saw which image."""
        return iter(sorted(self._places))  # all numbers or all strings

    def __getitem__(self, image_id: int | str) -> dict[str, Any]:
        """The record of an image."""
        start, length = self._places[image_id]
        self._file.seek(start)
        record: dict[str, Any] = msgspec.msgpack.decode(self._file.read(length), ext_hook=_decoded)
        return record

    def items(self) -> Iterator[tuple[int | str, dict[str, Any]]]:
        """Ids and records, one after the other, ids rising."""
        for image_id in self:
            yield image_id, self[image_id]

    def state(self) -> State:
        """Everything in this log, for `merge` in another process: the path of a copy where the other can read it, which
        is removed with this log; else the bytes."""
        self._file.seek(0)
        if self._folder is None and not _on_one_machine():
            return self._file.read()
        number, path = tempfile.mkstemp(dir=self._folder, prefix="detkit-")
        weakref.finalize(self, _remove, path)
        with open(number, "wb") as copy:
            while chunk := self._file.read(_CHUNK):
                copy.write(chunk)
        return path

    def merge(self, states: Iterable[State]) -> None:
        """Replace what is in this log by the union of states; of an image in several, the last counts.

        Raises:
            ValueError: a file is not there.
        """
        self._start()
        for state in states:
            for image_id, record in _entries(state):
                self._write(image_id, record)


def _nothing() -> None: ...


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _on_one_machine() -> bool:
    """Whether all processes of this run are on this machine, by what torchrun tells them."""
    count = os.environ.get("WORLD_SIZE", "1")
    return count == "1" or os.environ.get("LOCAL_WORLD_SIZE") == count


def _entries(state: State) -> Iterator[tuple[int | str, bytes]]:
    """Ids and encoded records of a state."""
    if isinstance(state, bytes):
        place = 0
        while place < len(state):
            key, record = _LENGTHS.unpack_from(state, place)
            place += _LENGTHS.size
            yield msgspec.msgpack.decode(state[place : place + key]), state[place + key : place + key + record]
            place += key + record
        return
    try:
        with open(state, "rb") as file:
            while lengths := file.read(_LENGTHS.size):
                key, record = _LENGTHS.unpack(lengths)
                yield msgspec.msgpack.decode(file.read(key)), file.read(record)
    except FileNotFoundError as error:
        raise ValueError(
            f"the results of another process, {state}, are not there: did it end before they were merged?"
        ) from error


def _encoded(value: Any) -> Any:
    """Arrays as msgpack's own extension: type, shape and bytes."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        data = (value.dtype.str, value.shape, np.ascontiguousarray(value).data)
        return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(data))
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    kind = (
        f"an array of type {value.dtype}"
        if isinstance(value, np.ndarray)
        else f"a value of type {type(value).__name__}"
    )
    raise ValueError(f"a record holds {kind}; plain values and NumPy arrays of numbers can be kept")


def _decoded(code: int, data: memoryview) -> NDArray[Any]:
    assert code == _ARRAY
    kind, shape, values = msgspec.msgpack.decode(data, type=tuple[str, tuple[int, ...], memoryview])
    return np.frombuffer(values, kind).reshape(shape)
