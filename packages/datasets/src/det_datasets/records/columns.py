"""Detectron2's dicts in columns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hotcoco import mask as rle

from det_datasets.columns import Columns, ColumnsBuilder
from detkit.structures.categories import Categories

XYXY_ABS, XYWH_ABS, XYXY_REL, XYWH_REL, XYWHA_ABS = range(5)
"""Detectron2's `BoxMode`."""

_NEEDED = ("file_name", "height", "width")


def ordered(records: Sequence[Mapping[str, Any]]) -> list[tuple[int | str, Mapping[str, Any]]]:
    """The records with the ids of their images, by default their positions; numbers rise, text keeps its order.

    Raises:
        ValueError: something is missing, or an id is given twice.
    """
    found: list[tuple[int | str, Mapping[str, Any]]] = []
    for position, record in enumerate(records):
        if missing := [key for key in _NEEDED if key not in record]:
            raise ValueError(f"record {position} has no {', '.join(missing)}; it has {', '.join(record) or 'nothing'}")
        found.append((_id(record.get("image_id", position)), record))
    if any(isinstance(id, str) for id, _ in found):
        found = [(str(id), record) for id, record in found]
    else:
        found.sort(key=lambda entry: entry[0])
    ids = Counter(id for id, _ in found)
    if twice := [str(id) for id, count in ids.items() if count > 1]:
        raise ValueError(f"image_id is given to more than one record: {', '.join(twice[:5])}; each must be unique")
    return found


def build_columns(
    records: Sequence[tuple[int | str, Mapping[str, Any]]], categories: Categories, problems: Counter[str]
) -> Columns:
    """Columns of records in their final order; what was left out or repaired is counted in `problems`.

    Raises:
        ValueError: an annotation is not of the form that Detectron2 asks for; the message names the image's file.
    """
    keypoints = len(categories.keypoints or ())
    annotations = [annotation for _, record in records for annotation in record.get("annotations", ())]
    rotated = any(annotation.get("bbox_mode") == XYWHA_ABS for annotation in annotations)
    builder = ColumnsBuilder(rotated=rotated, keypoints=keypoints)
    for id, record in records:
        name, height, width = str(record["file_name"]), int(record["height"]), int(record["width"])
        builder.image(id, name, height, width)
        for annotation in record.get("annotations", ()):
            try:
                _add(builder, annotation, (height, width), categories, rotated, problems)
            except (KeyError, TypeError, ValueError) as error:
                what = f"it has no {error}" if isinstance(error, KeyError) else error
                raise ValueError(f"an annotation of {name}: {what}") from None
    return builder.build()


def _add(
    builder: ColumnsBuilder,
    annotation: Mapping[str, Any],
    size: tuple[int, int],
    categories: Categories,
    rotated: bool,
    problems: Counter[str],
) -> None:
    label = int(annotation["category_id"])
    if not 0 <= label < len(categories):
        raise ValueError(f"category_id is {label}; from 0 to {len(categories) - 1} there are classes")
    box = _box(annotation["bbox"], int(annotation["bbox_mode"]), size, rotated)
    if min(box[2:4] if rotated else (box[2] - box[0], box[3] - box[1])) <= 0:
        problems["have an empty box, or one outside the image: left out"] += 1
        return
    rings, counts = _mask(annotation.get("segmentation"), size, problems)
    builder.object(
        label,
        box,
        crowd=bool(annotation.get("iscrowd", 0)),
        area=_area(box, rings, counts, size),
        rings=rings,
        counts=counts,
        keypoints=_keypoints(annotation.get("keypoints"), len(categories.keypoints or ()), problems),
    )


def _id(id: Any) -> int | str:
    if isinstance(id, np.integer):
        return int(id)
    if isinstance(id, bool) or not isinstance(id, int | str):
        raise ValueError(f"image_id is {id!r}; a whole number or text is needed")
    return id


def _box(given: Any, mode: int, size: tuple[int, int], rotated: bool) -> list[float]:
    """xyxy inside the image, or rotated: centre x, y, width, height, degrees, as it is."""
    box = [float(number) for number in given]
    height, width = size
    if mode not in range(5) or len(box) != (5 if mode == XYWHA_ABS else 4) or not all(map(math.isfinite, box)):
        raise ValueError(
            f"bbox is {box} with bbox_mode {mode}; four numbers with XYXY_ABS (0), XYWH_ABS (1), XYXY_REL (2) or "
            "XYWH_REL (3), or five with XYWHA_ABS (4) are needed"
        )
    if mode == XYWHA_ABS:
        return box
    if mode in (XYXY_REL, XYWH_REL):
        box = [box[0] * width, box[1] * height, box[2] * width, box[3] * height]
    if mode in (XYWH_ABS, XYWH_REL):
        box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    x1, x2 = (min(max(x, 0.0), float(width)) for x in box[::2])
    y1, y2 = (min(max(y, 0.0), float(height)) for y in box[1::2])
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 0.0] if rotated else [x1, y1, x2, y2]


def _mask(given: Any, size: tuple[int, int], problems: Counter[str]) -> tuple[list[list[float]], bytes]:
    """Polygons, or compressed RLE counts."""
    if isinstance(given, Mapping):
        return [], _counts(given, size)
    rings = [[float(number) for number in np.ravel(ring)] for ring in (() if given is None else given)]
    good = [ring for ring in rings if len(ring) >= 6 and len(ring) % 2 == 0]
    if len(good) < len(rings):
        problems["have polygons of fewer than 3 points: these were left out"] += 1
    if not all(math.isfinite(number) for ring in good for number in ring):
        raise ValueError("segmentation holds numbers that are not finite")
    return good, b""


def _counts(given: Mapping[str, Any], size: tuple[int, int]) -> bytes:
    counts = given["counts"]
    if tuple(given["size"]) != size:
        raise ValueError(f"segmentation is an RLE of the size {list(given['size'])}, the image of {list(size)}")
    if isinstance(counts, str | bytes):
        return counts.encode() if isinstance(counts, str) else counts
    if min(counts, default=0) < 0 or sum(counts) != size[0] * size[1]:
        raise ValueError("segmentation is an RLE that has not as many pixels as the image")
    code = rle.frPyObjects({"size": list(size), "counts": list(counts)}, *size)["counts"]
    return code.encode() if isinstance(code, str) else bytes(code)


def _area(box: Sequence[float], rings: list[list[float]], counts: bytes, size: tuple[int, int]) -> float | None:
    """That of the mask in pixels; None where there is none, since the box will do."""
    if counts:
        return float(rle.area({"size": list(size), "counts": counts}))
    if not rings:
        return None
    return sum(abs(_signed_area(ring)) for ring in rings)


def _signed_area(ring: Sequence[float]) -> float:
    x, y = np.asarray(ring[::2]), np.asarray(ring[1::2])
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def _keypoints(given: Any, count: int, problems: Counter[str]) -> list[float]:
    if given is None or (count == 0 and len(given)):
        if given is not None:
            problems["have keypoints that the categories do not name: not read"] += 1
        return [0.0] * (3 * count)
    points = np.asarray(given, np.float64).reshape(-1, 3)
    if len(points) != count or not np.isfinite(points).all() or not np.isin(points[:, 2], (0, 1, 2)).all():
        raise ValueError(f"keypoints must be {count} times x, y and visibility (0, 1 or 2)")
    points[points[:, 2] == 0] = 0
    numbers: list[float] = points.ravel().tolist()
    return numbers
