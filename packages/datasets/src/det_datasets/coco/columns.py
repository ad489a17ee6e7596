"""A COCO file in columns."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
from hotcoco import mask as rle  # unlike pycocotools' it checks counts before it uses them

from det_datasets.coco.keypoints import read_points
from det_datasets.coco.schema import AnnotationEntry, CocoFile
from det_datasets.columns import Columns, ColumnsBuilder
from detkit.structures.categories import Categories


class Rle(msgspec.Struct):
    """A run-length encoded mask: compressed counts are a string, uncompressed ones a list."""

    size: tuple[int, int]
    counts: str | list[int]


_SEGMENTATION = msgspec.json.Decoder(list[list[float]] | Rle | None)


def build_columns(file: CocoFile, categories: Categories, problems: Counter[str]) -> Columns:
    """Put a file into columns, and count in `problems` what had to be dropped or repaired.

    Raises:
        ValueError: ids repeat or point nowhere, a number is not finite.
    """
    images = sorted(file.images, key=lambda image: image.id)
    ids = [image.id for image in images]
    for before, after in pairwise(ids):
        if before == after:
            raise ValueError(f"image id {before} is given to more than one image; each must be unique")
    for image in images:
        if image.height < 1 or image.width < 1:
            raise ValueError(f"image {image.id} ({image.file_name}) has height {image.height}, width {image.width}")
    of_image: list[list[AnnotationEntry]] = [[] for _ in images]
    for annotation in file.annotations:
        position = bisect_left(ids, annotation.image_id)
        if position == len(ids) or ids[position] != annotation.image_id:
            problems["belong to images that the file does not list: left out"] += 1
        else:
            of_image[position].append(annotation)
    rotated = any(annotation.bbox is not None and len(annotation.bbox) == 5 for annotation in file.annotations)
    builder = ColumnsBuilder(rotated=rotated, keypoints=len(categories.keypoints or ()))
    rows = _Rows(builder, categories, problems, rotated)
    for image, entries in zip(images, of_image, strict=True):
        builder.image(image.id, image.file_name, image.height, image.width)
        for annotation in entries:
            rows.add(annotation, image.height, image.width)
    return builder.build()


class _Rows:
    """Annotations on their way into columns."""

    def __init__(self, builder: ColumnsBuilder, categories: Categories, problems: Counter[str], rotated: bool) -> None:
        self.builder = builder
        self.categories = categories
        self.problems = problems
        self.rotated = rotated
        self.keypoint_count = len(categories.keypoints or ())

    def add(self, annotation: AnnotationEntry, height: int, width: int) -> None:
        try:
            label = self.categories.label_of_id(annotation.category_id)
        except KeyError:
            raise ValueError(
                f"annotation {annotation.id} of image {annotation.image_id} has category_id {annotation.category_id}, "
                f"which 'categories' does not define"
            ) from None
        rings, code = self._segmentation(annotation, height, width)
        box = (_rotated_box if self.rotated else _box)(annotation, rings, code, height, width)
        if box is None:
            what = "have neither a usable box nor a usable mask" if annotation.bbox is None else "have an empty box"
            self.problems[f"{what}: left out"] += 1
            return
        self.builder.object(
            label,
            box,
            id=annotation.id,
            area=annotation.area,
            crowd=bool(annotation.iscrowd),
            rings=rings,
            counts=code,
            keypoints=self._keypoints(annotation),
        )

    def _keypoints(self, annotation: AnnotationEntry) -> list[float]:
        if self.keypoint_count == 0:
            return []
        points = read_points(annotation.keypoints, self.keypoint_count)
        if points is None:
            self.problems["have malformed keypoints: kept without them"] += 1
            points = [0.0] * (3 * self.keypoint_count)
        return points

    def _segmentation(self, annotation: AnnotationEntry, height: int, width: int) -> tuple[list[list[float]], bytes]:
        """The polygons of an annotation, or its compressed counts; both empty if it has neither."""
        try:
            found = _SEGMENTATION.decode(annotation.segmentation)
            if isinstance(found, Rle):
                return [], _compress(found, height, width)
        except (msgspec.ValidationError, ValueError):
            self.problems["have a malformed mask: kept with their boxes alone"] += 1
            return [], b""
        rings = [ring for ring in found or () if len(ring) >= 6 and len(ring) % 2 == 0]
        if found and len(rings) < len(found):
            if rings:
                self.problems["have polygons of fewer than 3 points among others: these were left out"] += 1
            else:
                self.problems["have no polygon of at least 3 points: kept with their boxes alone"] += 1
        return rings, b""


def _compress(found: Rle, height: int, width: int) -> bytes:
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


def _rotated_box(
    annotation: AnnotationEntry, rings: Sequence[Sequence[float]], code: bytes, height: int, width: int
) -> tuple[float, ...] | None:
    """The box in a file of rotated ones: five numbers as they are, or what others have, not turned; None if empty."""
    if annotation.bbox is None or len(annotation.bbox) != 5:
        upright = _box(annotation, rings, code, height, width)
        if upright is None:
            return None
        left, top, right, bottom = upright
        return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top, 0.0
    if not np.isfinite(annotation.bbox).all():
        raise ValueError(
            f"annotation {annotation.id} of image {annotation.image_id} has bbox {annotation.bbox}; five finite "
            "numbers are needed: centre x, y, width, height, degrees counter-clockwise"
        )
    return tuple(annotation.bbox) if min(annotation.bbox[2:4]) > 0 else None


def _box(
    annotation: AnnotationEntry, rings: Sequence[Sequence[float]], code: bytes, height: int, width: int
) -> tuple[float, float, float, float] | None:
    """The part of the box inside the image, xyxy: the box that is given, else that of the mask; None if it is empty."""
    if annotation.bbox:
        if len(annotation.bbox) != 4 or not np.isfinite(annotation.bbox).all():
            raise ValueError(
                f"annotation {annotation.id} of image {annotation.image_id} has bbox {annotation.bbox}; "
                "four finite numbers x, y, width, height are needed"
            )
        left, top, across, down = annotation.bbox
        right, bottom = left + across, top + down
    elif rings:
        left, right = min(min(ring[0::2]) for ring in rings), max(max(ring[0::2]) for ring in rings)
        top, bottom = min(min(ring[1::2]) for ring in rings), max(max(ring[1::2]) for ring in rings)
    elif code:
        left, top, across, down = map(float, rle.toBbox({"size": [height, width], "counts": code}))
        right, bottom = left + across, top + down
    else:
        return None
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    return (left, top, right, bottom) if right > left and bottom > top else None
