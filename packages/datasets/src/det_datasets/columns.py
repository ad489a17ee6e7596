"""Annotations as a few long tensors: compact, and one copy for all loader processes however these are started."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

MARKS = {"truncated": 1, "occluded": 2}
"""What else some formats say of objects, and its bit in `Columns.marks`."""


@dataclass
class Strings:
    """Many strings (n,) in two tensors."""

    bytes: Tensor  # uint8: all of them, in UTF-8
    ends: Tensor  # (n,) int64

    @classmethod
    def of(cls, values: Iterable[str]) -> Strings:
        encoded = [value.encode() for value in values]
        ends = torch.tensor([len(value) for value in encoded], dtype=torch.int64).cumsum(0)
        return cls(_tensor(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start, end = span(self.ends, index)
        return self.bytes[start:end].numpy().tobytes().decode()

    @property
    def nbytes(self) -> int:
        return self.bytes.nbytes + self.ends.nbytes


@dataclass
class Columns:
    """The images (I) and annotations (A, ordered by image) of a split.

    Tensors are mapped from a file that is cached, or in shared memory when they are sent to other processes, and pages
    of forked ones are never written, so that loader workers do not multiply them; Python objects would be copied as
    soon as their reference counts change. Columns are not changed once they are made.
    """

    image_ids: Tensor | Strings  # (I,) int64, rising; or the dataset's own names of its images
    sizes: Tensor  # (I, 2) int32 height, width
    names: Strings  # (I,) of files
    annotation_ends: Tensor  # (I,) int64: the annotations of an image are those up to here
    annotation_ids: Tensor  # (A,) int64
    boxes: Tensor  # (A, 4) float32 xyxy, inside the image; or rotated (A, 5), see `Sample`
    labels: Tensor  # (A,) int64
    crowd: Tensor  # (A,) bool
    areas: Tensor  # (A,) float32 square pixels, as the dataset says, else of the box
    difficult: Tensor  # (A,) bool: neither finding it nor missing it counts, where the dataset has such objects
    keypoints: Tensor  # (A, K, 3) float32 x, y, visibility; K is 0 where there are none
    points: Tensor  # (P, 2) float32: of all polygons
    ring_ends: Tensor  # (R,) int64 into points
    rings_of: Tensor  # (A,) int64: where an annotation's rings end
    codes: Tensor  # bytes of all compressed RLE counts, uint8
    code_ends: Tensor  # (A,) int64; annotations without RLE have empty counts
    marks: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.uint8))  # (A,) uint8: sums of `MARKS`; or
    # none (0,), where the format has no such marks
    file: Path | None = field(default=None, init=False)  # that all these are mapped from; see `det_datasets.cache`

    def __len__(self) -> int:
        """The number of images."""
        return len(self.sizes)

    def image_id(self, index: int) -> int | str:
        """The dataset's own id of an image."""
        return self.image_ids[index] if isinstance(self.image_ids, Strings) else int(self.image_ids[index])

    def nbytes(self) -> int:
        """The memory that the columns take."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """All columns by name; each of strings as two, `NAME.bytes` and `NAME.ends`."""
        found: dict[str, Tensor] = {}
        for name in _NAMES:
            column = getattr(self, name)
            if isinstance(column, Strings):
                found |= {f"{name}.bytes": column.bytes, f"{name}.ends": column.ends}
            else:
                found[name] = column
        return found

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], file: Path | None = None) -> Columns:
        """What `tensors` gave; read from `file`, if they are."""

        def column(name: str) -> Tensor | Strings:
            return tensors[name] if name in tensors else Strings(tensors[f"{name}.bytes"], tensors[f"{name}.ends"])

        columns = cls(**{name: column(name) for name in _NAMES})  # type: ignore[arg-type]
        columns.file = file
        return columns

    def __reduce__(self) -> tuple[Any, ...]:
        """To other processes goes the name of the file, if there is one, which they map into memory too."""
        if self.file is not None and self.file.is_file():
            return _of_file, (self.file,)
        return Columns.of_tensors, (self.tensors(),)


_NAMES = tuple(field.name for field in fields(Columns) if field.init)


def _of_file(file: Path) -> Columns:
    return Columns.of_tensors(load_file(file), file)


class ColumnsBuilder:
    """Columns of a format that is read object by object: `image`, then `object` for each of its objects, and so on.

    Args:
        rotated: whether boxes are rotated, with five numbers.
        keypoints: how many each object has.
    """

    def __init__(self, *, rotated: bool = False, keypoints: int = 0) -> None:
        self._rotated = rotated
        self._keypoint_count = keypoints
        self._image_ids: list[int | str] = []
        self._names: list[str] = []
        self._sizes, self._annotation_ends = array("i"), array("q")
        self._ids, self._labels = array("q"), array("q")
        self._crowd, self._difficult = array("B"), array("B")
        self._boxes, self._areas, self._keypoints = array("f"), array("f"), array("f")
        self._points, self._ring_ends, self._rings_of = array("f"), array("q"), array("q")
        self._codes, self._code_ends = bytearray(), array("q")
        self._marks = array("B")

    def image(self, id: int | str, name: str, height: int, width: int) -> None:
        """Begin an image: its id, all of them numbers or all of them strings, the name of its file, and its size."""
        self._image_ids.append(id)
        self._names.append(name)
        self._sizes.extend((height, width))
        self._annotation_ends.append(len(self._ids))

    def object(
        self,
        label: int,
        box: Sequence[float],
        *,
        id: int | None = None,
        area: float | None = None,
        crowd: bool = False,
        difficult: bool = False,
        rings: Sequence[Sequence[float]] = (),
        counts: bytes = b"",
        keypoints: Sequence[float] = (),
        marks: int = 0,
    ) -> None:
        """Add an object to the last image.

        Args:
            label: contiguous, from 0.
            box: xyxy, inside the image; rotated, centre x, y, width, height, degrees counter-clockwise.
            id: the dataset's; a number by default.
            area: in square pixels; that of the box by default.
            crowd, difficult: see `Columns`.
            rings: polygons, flat x, y, x, y, ...
            counts: compressed RLE, instead of `rings`.
            keypoints: flat x, y, visibility, ...
            marks: the sum of those of `MARKS` that it has.
        """
        self._ids.append(len(self._ids) + 1 if id is None else id)
        self._labels.append(label)
        self._boxes.extend(box)
        self._areas.append(_area(box) if area is None else area)
        self._crowd.append(crowd)
        self._difficult.append(difficult)
        self._keypoints.extend(keypoints)
        for ring in rings:
            self._points.extend(ring)
            self._ring_ends.append(len(self._points) // 2)
        self._rings_of.append(len(self._ring_ends))
        self._codes += counts
        self._code_ends.append(len(self._codes))
        self._marks.append(marks)
        self._annotation_ends[-1] = len(self._ids)

    def build(self) -> Columns:
        """The columns of everything that was added."""
        ids = self._image_ids
        numbers = not any(isinstance(id, str) for id in ids)
        return Columns(
            image_ids=torch.tensor(ids, dtype=torch.int64) if numbers else Strings.of(map(str, ids)),
            sizes=_tensor(self._sizes, np.int32).reshape(-1, 2),
            names=Strings.of(self._names),
            annotation_ends=_tensor(self._annotation_ends, np.int64),
            annotation_ids=_tensor(self._ids, np.int64),
            boxes=_tensor(self._boxes, np.float32).reshape(-1, 5 if self._rotated else 4),
            labels=_tensor(self._labels, np.int64),
            crowd=_tensor(self._crowd, np.uint8).bool(),
            areas=_tensor(self._areas, np.float32),
            difficult=_tensor(self._difficult, np.uint8).bool(),
            keypoints=_tensor(self._keypoints, np.float32).reshape(len(self._ids), self._keypoint_count, 3),
            points=_tensor(self._points, np.float32).reshape(-1, 2),
            ring_ends=_tensor(self._ring_ends, np.int64),
            rings_of=_tensor(self._rings_of, np.int64),
            codes=_tensor(bytes(self._codes), np.uint8),
            code_ends=_tensor(self._code_ends, np.int64),
            marks=_tensor(self._marks if any(self._marks) else b"", np.uint8),
        )


def span(ends: Tensor, index: int) -> tuple[int, int]:
    """Where the entries of one row start and end."""
    return int(ends[index - 1]) if index else 0, int(ends[index])


def spread(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of ranges, one range after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - ends + lengths, lengths) + np.arange(total)


def taken(values: NDArray[Any], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[Any]:
    """The values in ranges, one range after the other; with little memory besides the result."""
    ends = np.cumsum(lengths)
    found = np.empty((int(ends[-1]) if len(ends) else 0, *values.shape[1:]), values.dtype)
    at_once = 1 << 12
    for first in range(0, len(starts), at_once):
        part = slice(first, first + at_once)
        where = spread(starts[part], lengths[part])
        end = int(ends[part][-1])
        np.take(values, where, axis=0, out=found[end - len(where) : end], mode="clip")  # "raise" would copy
    return found


def _area(box: Sequence[float]) -> float:
    return box[2] * box[3] if len(box) == 5 else (box[2] - box[0]) * (box[3] - box[1])


def _tensor(values: array[float] | array[int] | bytes, dtype: type[np.generic]) -> Tensor:
    return torch.from_numpy(np.frombuffer(values, dtype).copy())
