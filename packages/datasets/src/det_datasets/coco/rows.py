"""The annotations of a COCO file, read into long arrays in the order of the file."""

from __future__ import annotations

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

_SEGMENTATION = msgspec.json.Decoder(Segmentation)


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
        self.areas = array("d")  # NaN where there is none
        self.boxes, self.box_sizes = array("d"), array("q")  # as many numbers as there are; -1 without a `bbox`
        self.points, self.ring_sizes = array("f"), array("q")  # of polygons that can be used
        self.ring_counts = array("q")  # (A,) polygons of each annotation
        self.codes, self.code_sizes = bytearray(), array("q")  # (A,) bytes of compressed counts
        self.mask_problems = array("B")  # (A,)
        self.keypoints, self.keypoint_sizes = array("d"), array("q")  # (A,) numbers; MALFORMED if they are none
        try:
            for entries in file.annotations(_AT_ONCE, keypoints=keypoints):
                self._add(entries)
        except OverflowError:
            raise ValueError("an annotation holds an id or another whole number of more than 64 bits") from None

    def __len__(self) -> int:
        return len(self.ids)

    def _add(self, entries: Sequence[Any]) -> None:
        count = len(entries)
        _append(self.ids, map(_ID, entries), count)
        _append(self.image_ids, map(_IMAGE_ID, entries), count)
        _append(self.category_ids, map(_CATEGORY_ID, entries), count)
        _append(self.crowd, map(_CROWD, entries), count)
        _append(self.areas, (np.nan if entry.area is None else entry.area for entry in entries), count)
        boxes = [entry.bbox for entry in entries]
        sizes = [-1 if box is None else len(box) for box in boxes]
        _append(self.box_sizes, sizes, count)
        _append(self.boxes, chain.from_iterable(filter(None, boxes)), sum(size for size in sizes if size > 0))
        masks = [self._mask(entry) for entry in entries]
        rings = list(chain.from_iterable([found for found, _ in masks if type(found) is list]))
        lengths = list(map(len, rings))
        _append(self.ring_counts, [len(found) if type(found) is list else 0 for found, _ in masks], count)
        _append(self.ring_sizes, [length // 2 for length in lengths], len(lengths))
        _append(self.points, chain.from_iterable(rings), sum(lengths))
        _append(self.code_sizes, [len(found) if type(found) is bytes else 0 for found, _ in masks], count)
        self.codes += b"".join([found for found, _ in masks if type(found) is bytes])
        _append(self.mask_problems, [problem for _, problem in masks], count)
        if self._has_keypoints:
            for entry in entries:
                self._add_keypoints(entry)

    def _mask(self, entry: Any) -> tuple[list[list[float]] | bytes | None, int]:
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
        if not found:
            return None, MaskProblem.NONE
        good = [ring for ring in found if len(ring) >= 6 and not len(ring) % 2]
        if len(good) == len(found):
            return good, MaskProblem.NONE
        return good, MaskProblem.SOME_POLYGONS if good else MaskProblem.ALL_POLYGONS

    def _add_keypoints(self, entry: KeypointsEntry | DoubtfulEntry) -> None:
        try:
            found = NUMBERS.decode(entry.keypoints) if isinstance(entry, DoubtfulEntry) else entry.keypoints
        except msgspec.DecodeError:
            self.keypoint_sizes.append(MALFORMED)
            return
        self.keypoints.extend(found or ())
        self.keypoint_sizes.append(len(found or ()))


_ID, _IMAGE_ID, _CATEGORY_ID, _CROWD = map(attrgetter, ("id", "image_id", "category_id", "iscrowd"))


def _append(numbers: array[Any], values: Iterable[Any], count: int) -> None:
    """Twice as fast as `numbers.extend`."""
    numbers.frombytes(np.fromiter(values, numbers.typecode, count).tobytes())


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
