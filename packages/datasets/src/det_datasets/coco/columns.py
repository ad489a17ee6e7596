"""A COCO file in columns. Rules are applied to all annotations at once: a large file has millions of them."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any

import numpy as np
import torch
from hotcoco import mask as rle
from numpy.typing import NDArray

from det_datasets.coco.keypoints import labelled, points_in_plane
from det_datasets.coco.rows import MaskProblem, Rows
from det_datasets.coco.schema import CocoFile
from det_datasets.columns import Columns, Strings, spread, taken
from detkit.structures.categories import Categories

_MASK_PROBLEMS = {
    MaskProblem.MALFORMED: "have a malformed mask: kept with their boxes alone",
    MaskProblem.SOME_POLYGONS: "have polygons of fewer than 3 points among others: these were left out",
    MaskProblem.ALL_POLYGONS: "have no polygon of at least 3 points: kept with their boxes alone",
}


def build_columns(file: CocoFile, categories: Categories, problems: Counter[str], *, min_keypoints: int = 0) -> Columns:
    """Put a file into columns, and count in `problems` what had to be dropped or repaired.

    Args:
        file: is read here.
        categories: of the file, with the keypoints that are read.
        problems: see `Dataset.problems`.
        min_keypoints: images with fewer labelled keypoints, of all their instances together, are left out.

    Raises:
        ValueError: ids repeat or point nowhere, a number is not finite, an annotation is not of its type.
    """
    keypoints = len(categories.keypoints or ())
    images = _Images(file)
    rows = Rows(file, images.size, keypoints=bool(keypoints or min_keypoints))
    positions = images.find(_array(rows.image_ids))
    _count(problems, "belong to images that the file does not list: left out", int((positions < 0).sum()))
    if min_keypoints:
        positions = images.keep_labelled(positions, rows, min_keypoints)
    images.require_sizes()
    table = _Table(rows, positions, images)
    labels = table.labels(categories)
    boxes, kept = table.boxes(problems)
    found = np.bincount(table.of(rows.mask_problems), minlength=4)
    for problem, message in _MASK_PROBLEMS.items():
        _count(problems, message, int(found[problem]))
    return table.columns(labels, boxes, kept, keypoints, problems)


class _Images:
    """The images (I) of a file, ordered by id."""

    def __init__(self, file: CocoFile) -> None:
        self._file = file
        try:
            ids = np.array([image.id for image in file.images], np.int64)
        except OverflowError:
            raise ValueError("an image has an id of more than 64 bits") from None
        order = np.argsort(ids, kind="stable")
        self.entries = [file.images[position] for position in order.tolist()]
        self.ids = ids[order]
        repeated = np.flatnonzero(self.ids[1:] == self.ids[:-1])
        if len(repeated):
            raise ValueError(f"image id {self.ids[repeated[0]]} is given to more than one image; each must be unique")
        self._positions: dict[int, int] | None = None

    def size(self, id: int) -> tuple[int, int] | None:
        """(height, width) of an image; None if it is not listed."""
        if self._positions is None:  # made for the first mask that needs it
            self._positions = {id: position for position, id in enumerate(self.ids.tolist())}
        position = self._positions.get(id)
        return None if position is None else (self.entries[position].height, self.entries[position].width)

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions of images, -1 of those that are not listed."""
        positions = np.searchsorted(self.ids, ids)
        listed = self.ids[np.minimum(positions, len(self.ids) - 1)] == ids
        return np.where(listed, positions, -1)

    def keep_labelled(self, positions: NDArray[np.int64], rows: Rows, least: int) -> NDArray[np.int64]:
        """Drop images with fewer labelled keypoints than `least`, and find new positions for these of annotations."""
        counts = labelled(_array(rows.keypoints), _array(rows.keypoint_sizes))
        listed = positions >= 0
        of_image = np.bincount(positions[listed], counts[listed], minlength=len(self.ids))
        kept = np.flatnonzero(of_image >= least)
        if not len(kept):
            raise ValueError(f"there is no image with {least} labelled keypoints or more")
        after = np.full(len(self.ids) + 1, -1)  # the last is for those that have no image
        after[kept] = np.arange(len(kept))
        self.ids, self.entries = self.ids[kept], [self.entries[position] for position in kept.tolist()]
        self._positions = None
        return after[positions]

    def require_sizes(self) -> None:
        for image in self.entries:
            if image.height < 1 or image.width < 1:
                raise ValueError(f"image {image.id} ({image.file_name}) has height {image.height}, width {image.width}")


class _Table:
    """The annotations (n) of the images: by image, and those of one image in the order of the file.

    Args:
        rows: as they are in the file.
        positions: (A,) of the rows' images; -1 of rows to leave out.
        images: of the file.
    """

    def __init__(self, rows: Rows, positions: NDArray[np.int64], images: _Images) -> None:
        order = np.argsort(positions, kind="stable")
        self.order = order[np.searchsorted(positions[order], 0) :]
        self.images = positions[self.order]
        self._rows = rows
        self._entries = images.entries
        sizes = [(image.height, image.width) for image in images.entries]
        self._sizes = np.array(sizes, np.int64).reshape(-1, 2)
        self._ring_starts = _starts(rows.ring_counts)
        self._point_starts = _starts(rows.ring_sizes)
        self._code_starts = _starts(rows.code_sizes)

    def of(self, values: array[Any]) -> NDArray[Any]:
        """Those of `values` (A,) that belong to annotations here."""
        return _array(values)[self.order]

    def labels(self, categories: Categories) -> NDArray[np.int64]:
        """(n,) from 0. Categories that are not defined are an error."""
        ids, given = np.array(categories.ids), self.of(self._rows.category_ids)
        by_id = np.argsort(ids)
        found: NDArray[np.int64] = by_id[np.searchsorted(ids[by_id], given).clip(max=len(ids) - 1)]
        for index in np.flatnonzero(ids[found] != given)[:1]:
            raise ValueError(
                f"{self._called(index)} has category_id {given[index]}, which 'categories' does not define"
            )
        return found

    def _called(self, index: np.intp) -> str:
        row = self.order[index]
        return f"annotation {self._rows.ids[row]} of image {self._rows.image_ids[row]}"

    def boxes(self, problems: Counter[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(n, 4 or 5), and which are not empty (n,). The part inside the image, xyxy, of the box that is given, else of
        that of the mask; in a file of rotated boxes five numbers as they are, and what others have, not turned."""
        numbers, counts = _array(self._rows.boxes), self.of(self._rows.box_sizes)
        starts = _starts(_array(self._rows.box_sizes).clip(min=0))[self.order]
        for index in np.flatnonzero((counts > 0) & (counts != 4) & (counts != 5))[:1]:
            box = numbers[starts[index] :][: counts[index]].tolist()
            raise ValueError(
                f"{self._called(index)} has bbox {box}; four finite numbers x, y, width, height are needed (or five of "
                "a rotated box: centre x, y, width, height, degrees counter-clockwise)"
            )
        boxes = np.zeros((len(self.order), 4))
        upright, turned = np.flatnonzero(counts == 4), np.flatnonzero(counts == 5)
        boxes[upright] = numbers[starts[upright, None] + np.arange(4)]
        boxes[:, 2:] += boxes[:, :2]
        self._add_boxes_of_masks(boxes, counts <= 0)
        limits = self._sizes[self.images][:, ::-1]
        boxes = np.concatenate((np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], limits)), axis=1)
        kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if (_array(self._rows.box_sizes) == 5).any():
            extents = boxes[:, 2:] - boxes[:, :2]
            centres = (boxes[:, 2:] + boxes[:, :2]) / 2
            boxes = np.concatenate((centres, extents, np.zeros((len(boxes), 1))), axis=1)
            boxes[turned] = numbers[starts[turned, None] + np.arange(5)]
            kept[turned] = (boxes[turned, 2] > 0) & (boxes[turned, 3] > 0)
        nothing = ~kept & (counts < 0)
        _count(problems, "have no box: that of their mask is taken", (kept & (counts <= 0)).sum())
        _count(problems, "have neither a usable box nor a usable mask: left out", nothing.sum())
        _count(problems, "have an empty box: left out", (~kept & ~nothing).sum())
        return boxes, kept

    def _add_boxes_of_masks(self, boxes: NDArray[np.float64], missing: NDArray[np.bool_]) -> None:
        """Put the boxes (n, 4) of masks where they are missing."""
        counts = self.of(self._rows.ring_counts)
        for index in np.flatnonzero(missing & (self.of(self._rows.code_sizes) > 0)):
            left, top, across, down = rle.toBbox(self._code(index))
            boxes[index] = left, top, left + across, top + down
        drawn = np.flatnonzero(missing & (counts > 0))
        if len(drawn):
            rings = spread(self._ring_starts[self.order[drawn]], counts[drawn])
            lengths = _array(self._rows.ring_sizes)[rings]
            points = taken(self._points(), self._point_starts[rings], lengths)
            starts = _starts(lengths)[_starts(counts[drawn])]  # of the first points of annotations
            boxes[drawn, :2] = np.minimum.reduceat(points, starts)
            boxes[drawn, 2:] = np.maximum.reduceat(points, starts)

    def _code(self, index: np.intp) -> dict[str, Any]:
        start, length = self._code_starts[self.order[index]], self._rows.code_sizes[self.order[index]]
        return {"size": self._sizes[self.images[index]].tolist(), "counts": bytes(self._rows.codes[start:][:length])}

    def _points(self) -> NDArray[np.float32]:
        return _array(self._rows.points).reshape(-1, 2)

    def columns(
        self,
        labels: NDArray[np.int64],
        boxes: NDArray[np.float64],
        kept: NDArray[np.bool_],
        keypoints: int,
        problems: Counter[str],
    ) -> Columns:
        """Everything of the annotations that are kept (n,)."""
        rows, self.order, self.images = self._rows, self.order[kept], self.images[kept]
        boxes = boxes[kept]
        extents = boxes[:, 2:4] if boxes.shape[1] == 5 else boxes[:, 2:] - boxes[:, :2]
        areas = self.of(rows.areas)
        areas = np.where(np.isnan(areas), extents.prod(axis=1), areas)
        ring_counts, code_sizes = self.of(rows.ring_counts), self.of(rows.code_sizes)
        rings = spread(self._ring_starts[self.order], ring_counts)
        ring_sizes = _array(rows.ring_sizes)[rings]
        points = np.zeros((len(self.order), 0, 3), np.float32)
        if keypoints:
            lengths = _array(rows.keypoint_sizes).clip(min=0)
            numbers = taken(_array(rows.keypoints), _starts(lengths)[self.order], lengths[self.order])
            points, malformed = points_in_plane(numbers, self.of(rows.keypoint_sizes), keypoints)
            _count(problems, "have malformed keypoints: kept without them", malformed)
        per_image = np.bincount(self.images, minlength=len(self._entries))
        return Columns(
            image_ids=torch.tensor([image.id for image in self._entries], dtype=torch.int64),
            sizes=_column(self._sizes, np.int32),
            names=Strings.of(image.file_name for image in self._entries),
            annotation_ends=_column(np.cumsum(per_image), np.int64),
            annotation_ids=_column(self.of(rows.ids), np.int64),
            boxes=_column(boxes, np.float32),
            labels=_column(labels[kept], np.int64),
            crowd=_column(self.of(rows.crowd) != 0, np.bool_),
            areas=_column(areas, np.float32),
            difficult=_column(self.of(rows.ignored) != 0, np.bool_),
            keypoints=_column(points, np.float32),
            points=_column(taken(self._points(), self._point_starts[rings], ring_sizes), np.float32),
            ring_ends=_column(np.cumsum(ring_sizes), np.int64),
            rings_of=_column(np.cumsum(ring_counts), np.int64),
            codes=_column(taken(_array(rows.codes), self._code_starts[self.order], code_sizes), np.uint8),
            code_ends=_column(np.cumsum(code_sizes), np.int64),
        )


def _array(values: array[Any] | bytearray) -> NDArray[Any]:
    """A view of it."""
    return np.frombuffer(values, values.typecode if isinstance(values, array) else np.uint8)


def _starts(lengths: array[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    lengths = np.asarray(lengths)
    return np.cumsum(lengths) - lengths


def _column(values: NDArray[Any], dtype: type[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype))


def _count(problems: Counter[str], problem: str, number: int) -> None:
    if number:
        problems[problem] += int(number)
