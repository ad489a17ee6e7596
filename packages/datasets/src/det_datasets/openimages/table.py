"""Open Images' CSV files, which have up to fifteen million rows: read in blocks, many rows at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 22
"""Bytes that are read at a time."""

SIDES = ("XMin", "YMin", "XMax", "YMax")
FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf")
_ID_LENGTH = 16
_COMMA, _NEWLINE, _RETURN = b",\n\r"
_HEX = np.full(256, 255, np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = range(16)


@dataclass
class Block:
    """Some rows (R) of a file of boxes.

    images: (R,) uint64 ids of images, hexadecimal numbers in the file.
    labels: (R,) of classes.
    boxes: (R, 4) xmin, ymin, xmax, ymax, shares of the image's size.
    flags: (R, 3) bool, of `FLAGS`.
    """

    images: NDArray[np.uint64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]
    flags: NDArray[np.bool_]


def read_classes(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids ("/m/011k07") and names of classes in a file like class-descriptions-boxable.csv, with header or without.

    Raises:
        ValueError: the file is missing or something else.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read the classes {path}: {getattr(error, 'strerror', None) or error}") from None
    rows = rows[1:] if rows and rows[0][0] == "LabelName" else rows
    if not rows or any(len(row) != 2 for row in rows):
        raise ValueError(f"{path} is no list of classes; a line LABEL,NAME for each is needed")
    return tuple(row[0] for row in rows), tuple(row[1] for row in rows)


def image_number(name: str) -> int | None:
    """The id of an image as a number, by the name of its file without suffix; None if it is no such id."""
    if len(name) != _ID_LENGTH or name.lower() != name:
        return None
    try:
        return int(name, 16)
    except ValueError:
        return None


def read_boxes(path: Path, classes: tuple[str, ...]) -> Iterator[Block]:
    """The rows of a file like train-annotations-bbox.csv.

    Args:
        path: the file.
        classes: the ids of classes, label 0 first.

    Raises:
        ValueError: the file is missing, a column is, or a row makes no sense; the message names its line.
    """
    try:
        with path.open("rb") as file:
            columns = file.readline().decode(errors="replace").strip().split(",")
            missing = [name for name in ("ImageID", "LabelName", *SIDES) if name not in columns]
            if missing:
                raise ValueError(f"{path} has no column {missing[0]}; it is no file of Open Images' boxes")
            table = _Table(path, columns, classes)
            for data in _blocks(file):
                yield table.parse(data)
    except OSError as error:
        raise ValueError(f"cannot read the boxes {path}: {error.strerror}") from None


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    """The rest of a file in blocks of whole lines, all of which end with a newline."""
    rest = b""
    while data := file.read(BLOCK):
        end = data.rfind(b"\n") + 1
        if end:
            yield rest + data[:end]
            rest = data[end:]
        else:
            rest += data
    if rest:
        yield rest + b"\n"


class _Table:
    def __init__(self, path: Path, columns: list[str], classes: tuple[str, ...]) -> None:
        self._path = path
        self._columns = columns
        self._line = 2  # the first one of the next block
        codes = _codes_of(classes)
        self._order = np.argsort(codes)
        self._codes = codes[self._order]

    def parse(self, data: bytes) -> Block:
        self._data = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero((self._data == _COMMA) | (self._data == _NEWLINE))
        count = len(self._columns)
        whole = len(ends) % count == 0
        breaks = self._data[ends].reshape(-1, count) == _NEWLINE if whole else None
        if breaks is None or not breaks[:, -1].all() or breaks[:, :-1].any():
            self._name_bad_row(data)
        starts = np.concatenate(([0], ends[:-1] + 1))
        self._starts, self._ends = starts.reshape(-1, count), ends.reshape(-1, count).copy()
        self._ends[:, -1] -= self._data[self._ends[:, -1] - 1] == _RETURN
        block = Block(self._images(), self._labels(), self._boxes(), self._flags())
        self._line += len(self._starts)
        return block

    def _name_bad_row(self, data: bytes) -> None:
        """ValueError naming the first row with other columns than the header's."""
        for number, line in enumerate(data.splitlines(), start=self._line):
            if line.count(b",") + 1 != len(self._columns):
                fields = line.count(b",") + 1
                raise ValueError(
                    f"{self._path}:{number}: {fields} columns, but the first line names {len(self._columns)}"
                )
        raise ValueError(f"{self._path}: lines must end with a newline")

    def _fields(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The bytes (R, width) of a column, zeros behind their ends, and their lengths (R,)."""
        column = self._columns.index(name)
        starts, lengths = self._starts[:, column], self._ends[:, column] - self._starts[:, column]
        width = max(int(lengths.max(initial=0)), 1)
        places = starts[:, None] + np.arange(width)
        found = self._data[np.minimum(places, len(self._data) - 1)]
        found[np.arange(width) >= lengths[:, None]] = 0
        return found, lengths

    def _require(self, good: NDArray[np.bool_], column: str, wanted: str) -> None:
        for row in np.flatnonzero(~good)[:1]:
            field, place = self._fields(column)[0][row], f"{self._path}:{self._line + row}"
            text = field.tobytes().rstrip(b"\0").decode(errors="replace")
            raise ValueError(f"{place}: {column} is {text!r}; {wanted}")

    def _images(self) -> NDArray[np.uint64]:
        found, lengths = self._fields("ImageID")
        wanted = f"an id of {_ID_LENGTH} hexadecimal digits is needed"
        self._require(lengths == _ID_LENGTH, "ImageID", wanted)
        digits = _HEX[found]
        self._require(digits.max(axis=1) < 16, "ImageID", wanted)
        pairs = digits[:, ::2] << 4 | digits[:, 1::2]
        return np.ascontiguousarray(pairs).view(">u8")[:, 0].astype(np.uint64)

    def _labels(self) -> NDArray[np.int64]:
        codes = _codes(self._fields("LabelName")[0])
        places = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        self._require(self._codes[places] == codes, "LabelName", "the list of classes does not have it")
        return self._order[places]

    def _boxes(self) -> NDArray[np.float64]:
        boxes = np.empty((len(self._starts), 4))
        for side, name in enumerate(SIDES):
            found, _ = self._fields(name)
            texts = found.view(f"S{found.shape[1]}")[:, 0]
            try:
                boxes[:, side] = texts.astype(np.float64)
            except ValueError:
                self._require(np.array([_is_number(text) for text in texts]), name, "a number is needed")
            self._require(np.isfinite(boxes[:, side]), name, "a finite number is needed")
            self._require(np.abs(boxes[:, side]) <= 2, name, "a share of the image's size, from 0 to 1, is needed")
        return boxes

    def _flags(self) -> NDArray[np.bool_]:
        """-1 stands for what is not known."""
        flags = np.zeros((len(self._starts), len(FLAGS)), bool)
        for position, name in enumerate(FLAGS):
            if name in self._columns:
                found, lengths = self._fields(name)
                flags[:, position] = (found[:, 0] == ord("1")) & (lengths == 1)
        return flags


def _codes(texts: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A number for each text (R, width), zeros behind its end, which differs for different ones."""
    codes = np.zeros(len(texts), np.uint64)
    for column in texts.T:
        codes = np.where(column > 0, codes * np.uint64(0x9E3779B97F4A7C15) + column, codes)
    return codes


def _codes_of(texts: tuple[str, ...]) -> NDArray[np.uint64]:
    found = np.array([text.encode() for text in texts])
    return _codes(found.view(np.uint8).reshape(len(found), -1))


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
