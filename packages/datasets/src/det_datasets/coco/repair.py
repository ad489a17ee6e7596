"""What can be wrong with one annotation of a COCO file, and putting it right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from hotcoco import mask as rle

from det_datasets.coco.ground_truth import encode
from det_datasets.coco.rows import compress
from det_datasets.coco.schema import Rle
from detkit.data.check import ASIDE, TINY
from detkit.structures.polygons import Polygons

SLACK = 1.0
"""Pixels that boxes and outlines may reach out of their image: annotation tools round, and readers cut anyway."""

FLAT = 1e-3
"""Square pixels; a polygon of less is flat."""

_NUMBERS = {int, float}
Note = Callable[[str, str], None]
Box = tuple[float, float, float, float]  # left, top, right, bottom


def whole(value: Any) -> int | None:
    """An id that may be written as a text or with a fraction of zero; None if it is none, or beyond 64 bits."""
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
        return None
    return int(value) if -(2**63) <= value < 2**63 else None


def is_number(value: Any) -> bool:
    """Whether it is an integer or a float, finite or not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def repair(
    entry: Mapping[str, Any], size: tuple[int, int], keypoints: int, note: Note, *, finite: bool = False
) -> tuple[dict[str, Any] | None, bool]:
    """An annotation without what is wrong with it, but for its ids: None if nothing is left.

    Args:
        entry: as it is in the file.
        size: height and width of its image.
        keypoints: how many its category has.
        note: called with the code of each problem, see `detkit.data.problems`, and what is wrong here.
        finite: there is no number that is not: the file is JSON.

    Returns:
        the annotation, and whether it has a mask.
    """
    found = dict(entry)
    if not finite:
        _finite_only(found, note)
    mask, outline, changed = _mask(found.get("segmentation"), size, note)
    if mask is None:
        found.pop("segmentation", None)
    else:
        found["segmentation"] = mask
    box = _box(found.get("bbox"), size, outline, note)
    if box is None:
        if outline is None:
            if found.get("bbox") is None:
                note("box-none", "no usable box and no usable mask")
            return None, False
        left, top, right, bottom = outline
        box, changed = [left, top, right - left, bottom - top], True
    changed |= box != found.get("bbox") and mask is None
    found["bbox"] = box
    _complete(found, size, changed, note)
    if keypoints:
        _keypoints(found, keypoints, note)
    return found, mask is not None


def _finite_only(entry: dict[str, Any], note: Note) -> None:
    """Remove values with NaN or infinity in them: JSON has no such numbers, and readers refuse the file. Of an outline
    only the polygons that have some."""
    for key, value in list(entry.items()):
        if _finite(value):
            continue
        note("number", f"{key} {value}"[:200])
        if key == "segmentation" and isinstance(value, list) and any(map(_finite, value)):
            entry[key] = [ring for ring in value if _finite(ring)]
        else:
            del entry[key]


def _finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_finite, value))
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return not isinstance(value, float) or math.isfinite(value)


def _mask(segmentation: Any, size: tuple[int, int], note: Note) -> tuple[Any, Box | None, bool]:
    """What is left of a mask, its box, and whether it was changed."""
    if not segmentation:
        return None, None, False
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, size, note)
    if not isinstance(segmentation, list):
        note("mask-malformed", f"segmentation {segmentation!r}"[:200])
        return None, None, True
    if _NUMBERS.issuperset(map(type, segmentation)):
        note("mask-malformed", "segmentation is one list of numbers; a list of such lists is needed")
        segmentation = [segmentation]
    rings, changed = [], False
    for ring in segmentation:
        kept = _ring(ring, size, note)
        changed |= kept is not ring
        if kept is not None:
            rings.append(kept)
    if not rings:
        note("mask-empty", "none of its polygons can be used")
        return None, None, True
    points = np.concatenate([np.asarray(ring, np.float64) for ring in rings]).reshape(-1, 2)
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    limits = size[1], size[0]
    return rings, (max(left, 0.0), max(top, 0.0), min(right, limits[0]), min(bottom, limits[1])), changed


def _ring(ring: Any, size: tuple[int, int], note: Note) -> Any:
    """A polygon, the part of it inside the image, or None."""
    if not isinstance(ring, list) or not _NUMBERS.issuperset(map(type, ring)):
        note("mask-malformed", f"a polygon is {ring!r}"[:200])
        return None
    if len(ring) < 6 or len(ring) % 2:
        note("polygon-points", f"{len(ring)} numbers; 6 or more, and an even number, are needed")
        return None
    points = np.asarray(ring, np.float64).reshape(-1, 2)
    x, y = points.T
    if abs(x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1]) < 2 * FLAT:
        note("polygon-flat", f"{len(points)} points around nothing, at {points[0].tolist()}")
        return None
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    height, width = size
    text = f"from {left:g}, {top:g} to {right:g}, {bottom:g}; the image is {width} x {height}"
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        note("polygon-outside", text)
        return None
    if min(left, top) >= -SLACK and right <= width + SLACK and bottom <= height + SLACK:
        return ring
    cut = Polygons.from_rings([[ring]], size).clipped().rings()[0]
    if not cut:
        note("polygon-outside", text)
        return None
    note("polygon-cut", text)
    return np.round(cut[0].astype(np.float64), 3).ravel().tolist()


def _run_lengths(code: dict[str, Any], size: tuple[int, int], note: Note) -> tuple[Any, Box | None, bool]:
    try:
        given = msgspec.convert({"size": code.get("size"), "counts": code.get("counts")}, Rle)
        if tuple(given.size) != size:
            note("mask-malformed", f"RLE of size {list(given.size)}; the image is {list(size)}, height and width")
            return None, None, True
        if isinstance(given.counts, str) and not _fits(given.counts, size[0] * size[1]):
            raise ValueError("its counts are not those of a mask of this size")
        left, top, width, height = rle.to_bbox({"size": list(size), "counts": compress(given, *size)})
    except ValueError as error:  # msgspec's errors among them
        empty = "empty" in str(error)
        note("mask-empty" if empty else "mask-malformed", "RLE without a pixel" if empty else f"RLE: {error}")
        return None, None, True
    return code, (float(left), float(top), float(left + width), float(top + height)), False


def _fits(counts: str, pixels: int) -> bool:
    """Whether compressed counts are whole and come to so many pixels, or fewer: the last run of zeros may be missing.
    (What decodes them takes more for an end.)"""
    values: list[int] = []
    value = shift = 0
    for byte in counts.encode():
        bits = byte - 48
        if not 0 <= bits < 64:
            return False
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)  # the sign
            values.append(value + (values[-2] if len(values) > 2 else 0))
            value = shift = 0
    return shift == 0 and min(values, default=0) >= 0 and sum(values) <= pixels


def _box(box: Any, size: tuple[int, int], outline: Box | None, note: Note) -> Any:
    """The box, cut at the border of the image; None if it cannot be used."""
    if box is None:
        if outline is not None:
            note("box-missing", "no bbox")
        return None
    if not isinstance(box, list) or len(box) not in (4, 5) or not all(map(is_number, box)):
        note("box-malformed", f"bbox {box!r}"[:200])
        return None
    height, width = size
    if len(box) == 5:
        return _turned_box(box, size, note)
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    if not (box[2] > 0 and box[3] > 0):
        note("box-empty", f"bbox {box}")
        return None
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        note("box-outside", f"bbox {box}; the image is {width} x {height}")
        return None
    if min(left, top) < -SLACK or right > width + SLACK or bottom > height + SLACK:
        note("box-cut", f"bbox {box}; the image is {width} x {height}")
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        box = [left, top, right - left, bottom - top]
    if min(right - left, bottom - top) < TINY:
        note("box-tiny", f"bbox {box}")
    cut = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
    if outline is not None and max(abs(a - b) for a, b in zip(cut, outline, strict=True)) > ASIDE:
        note("box-aside", f"bbox {box}, outline from {outline[0]:g}, {outline[1]:g} to {outline[2]:g}, {outline[3]:g}")
    return box


def _turned_box(box: Sequence[float], size: tuple[int, int], note: Note) -> Any:
    x, y, width, height, _ = box
    if not (width > 0 and height > 0):
        note("box-empty", f"bbox {box}")
        return None
    reach = math.hypot(width, height) / 2
    if not (-reach < x < size[1] + reach and -reach < y < size[0] + reach):
        note("box-outside", f"bbox {box}; the image is {size[1]} x {size[0]}")
        return None
    if min(width, height) < TINY:
        note("box-tiny", f"bbox {box}")
    return box


def _complete(entry: dict[str, Any], size: tuple[int, int], changed: bool, note: Note) -> None:
    """`area` and `iscrowd`; the area anew if the object was changed."""
    area = entry.get("area")
    if area is None:
        note("area-missing", "no area")
    elif not is_number(area) or area < 0:
        note("area", f"area {area!r}")
        area = None
    if area is None or changed:
        code = encode(entry.get("segmentation"), *size)
        box = entry["bbox"]
        entry["area"] = float(rle.area(code)) if code is not None else float(box[2] * box[3])
    crowd = entry.get("iscrowd", 0)
    if isinstance(crowd, bool) or crowd not in (0, 1):
        note("crowd", f"iscrowd {crowd!r}")
        crowd = bool(crowd) and str(crowd).lower() not in ("0", "false")
    entry["iscrowd"] = int(crowd)


def _keypoints(entry: dict[str, Any], count: int, note: Note) -> None:
    given = entry.get("keypoints")
    if not given:
        return
    fits = isinstance(given, list) and len(given) == 3 * count and all(map(is_number, given))
    if not fits or any(value not in (0, 1, 2) for value in given[2::3]):
        note("keypoints", f"{count} times x, y and a visibility of 0, 1 or 2 are needed, got {given!r}"[:200])
        del entry["keypoints"]
        entry["num_keypoints"] = 0
