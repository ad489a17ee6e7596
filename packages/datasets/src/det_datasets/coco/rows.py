"""The annotations of a COCO file, read into long arrays in the order of the file."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from hotcoco import mask as rle  # unlike pycocotools' it checks counts before it uses them

from det_datasets.coco.keypoints import MALFORMED, NUMBERS
from det_datasets.coco.schema import CocoFile, DoubtfulEntry, KeypointsEntry, Rle, Segmentation

_AT_ONCE = 64
"""Annotations whose Python objects exist at a time: few enough to stay in the processor's cache, which halves the time
that they take."""

_LEAST = 6
"""Numbers of a polygon of three points."""

_NONE = float("nan")

_SEGMENTATION = msgspec.json.Decoder(Segmentation)
_encode = msgspec.msgpack.Encoder().encode
_MARKED = np.dtype([("mark", "u1"), ("value", ">f8")])


class MaskProblem:
    """What was wrong with a mask. (An enumeration is too slow for millions of them.)"""

    NONE, MALFORMED, SOME_POLYGONS, ALL_POLYGONS = range(4)


class Rows:
    """All annotations (A), whatever images they are of. Lengths stand for ends, so that arrays are appended to.

    Args:
        file: what is read.
        size: (height, width) of an image by its id; None if the file does not list it.
        keypoints: whether keypoints are read.

    Raises:
        ValueError: an annotation is not of its type, or a number does not fit into 64 bits.
    """

    def __init__(
        self, file: CocoFile, size: Callable[[int], tuple[int, int] | None], *, keypoints: bool = False
    ) -> None:
        self._size, self._has_keypoints = size, keypoints
        self.ids, self.image_ids, self.category_ids, self.crowd = (array("q") for _ in range(4))
        self.ignored = array("B")
        self.areas = array("d")  # NaN where there is none
        self.boxes, self.box_sizes = array("d"), array("q")  # as many numbers as there are; -1 without a `bbox`
        self.points, self.ring_sizes = array("f"), array("q")  # of polygons that can be used
        self.ring_counts = array("q")  # (A,) polygons of each annotation
        self.codes, self.code_sizes = bytearray(), array("q")  # (A,) bytes of compressed counts
        self.mask_problems = array("B")  # (A,)
        self.keypoints, self.keypoint_sizes = array("d"), array("q")  # (A,) numbers; MALFORMED if they are none
        collects = gc.isenabled()
        gc.disable()  # there are no cycles among millions of lists, and looking for them takes its time
        try:
            for entries in file.annotations(_AT_ONCE, keypoints=keypoints):
                self._add(entries)
        except OverflowError:
            raise ValueError("an annotation holds an id or another whole number of more than 64 bits") from None
        finally:
            if collects:
                gc.enable()

    def __len__(self) -> int:
        return len(self.ids)

    def _add(self, entries: Sequence[Any]) -> None:
        count = len(entries)
        _append(self.ids, map(_ID, entries), count)
        _append(self.image_ids, map(_IMAGE_ID, entries), count)
        _append(self.category_ids, map(_CATEGORY_ID, entries), count)
        _append(self.crowd, map(_CROWD, entries), count)
        _append(self.ignored, map(bool, map(_IGNORE, entries)), count)
        _append_floats(self.areas, [_NONE if entry.area is None else entry.area for entry in entries])
        boxes = [entry.bbox for entry in entries]
        _append(self.box_sizes, [-1 if box is None else len(box) for box in boxes], count)
        _append_floats(self.boxes, list(chain.from_iterable(filter(None, boxes))))
        self._add_masks(entries)
        if self._has_keypoints:
            for entry in entries:
                self._add_keypoints(entry)

    def _add_masks(self, entries: Sequence[Any]) -> None:
        count = len(entries)
        masks, problems = [entry.segmentation for entry in entries], bytearray(count)
        for number, mask in enumerate(masks):
            if type(mask) is not list:  # few are not
                masks[number], problems[number] = self._decoded(entries[number])
        codes = [mask if type(mask) is bytes else b"" for mask in masks]
        polygons = [mask if type(mask) is list else [] for mask in masks]
        lengths = list(map(len, chain.from_iterable(polygons)))
        if any(length < _LEAST or length % 2 for length in lengths):
            for number, rings in enumerate(polygons):
                polygons[number] = good = [ring for ring in rings if len(ring) >= _LEAST and not len(ring) % 2]
                if len(good) < len(rings):
                    problems[number] = MaskProblem.SOME_POLYGONS if good else MaskProblem.ALL_POLYGONS
            lengths = list(map(len, chain.from_iterable(polygons)))
        points: list[float] = []
        for ring in chain.from_iterable(polygons):
            points += ring
        _append(self.ring_counts, map(len, polygons), count)
        _append(self.ring_sizes, [length // 2 for length in lengths], len(lengths))
        _append_floats(self.points, points)
        _append(self.code_sizes, map(len, codes), count)
        self.codes += b"".join(codes)
        self.mask_problems.frombytes(problems)

    def _decoded(self, entry: Any) -> tuple[list[list[float]] | bytes | None, int]:
        """The polygons of a mask, or its compressed counts; and what was wrong with it."""
        found = entry.segmentation
        try:
            if type(found) is msgspec.Raw:
                found = _SEGMENTATION.decode(found)
            if type(found) is Rle:
                size = self._size(entry.image_id)
                return None if size is None else compress(found, *size), MaskProblem.NONE
        except ValueError:  # msgspec's errors among them
            return None, MaskProblem.MALFORMED
        return found, MaskProblem.NONE

    def _add_keypoints(self, entry: KeypointsEntry | DoubtfulEntry) -> None:
        try:
            found = NUMBERS.decode(entry.keypoints) if isinstance(entry, DoubtfulEntry) else entry.keypoints
        except msgspec.DecodeError:
            self.keypoint_sizes.append(MALFORMED)
            return
        self.keypoints.extend(found or ())
        self.keypoint_sizes.append(len(found or ()))


_ID, _IMAGE_ID, _CATEGORY_ID, _CROWD, _IGNORE = map(attrgetter, ("id", "image_id", "category_id", "iscrowd", "ignore"))


def _append(numbers: array[Any], values: Iterable[int], count: int) -> None:
    """Twice as fast as `numbers.extend`."""
    numbers.frombytes(np.fromiter(values, numbers.typecode, count).tobytes())


def _append_floats(numbers: array[float], values: list[float]) -> None:
    """Four times as fast again: MessagePack writes each as a mark and eight bytes, after a head."""
    text = _encode(values)
    found = np.frombuffer(text, _MARKED, offset=len(text) - len(values) * _MARKED.itemsize)
    numbers.frombytes(found["value"].astype(numbers.typecode).tobytes())


def compress(found: Rle, height: int, width: int) -> bytes:
    """Compressed counts; ValueError if they are not those of a mask of this size with at least one pixel."""
    if tuple(found.size) != (height, width):
        raise ValueError("the size of another image")
    code = {"size": [height, width], "counts": found.counts}
    if isinstance(found.counts, list):
        if min(found.counts, default=0) < 0 or sum(found.counts) != height * width:
            raise ValueError("not as many pixels as the image has")
        code = rle.frPyObjects(code, height, width)
    if rle.area(code) == 0:
        raise ValueError("an empty mask")
    counts = code["counts"]
    return counts.encode() if isinstance(counts, str) else bytes(counts)
