"""Annotations as evaluators need them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from hotcoco import mask as rle

from det_datasets.coco.keypoints import read_points
from det_datasets.coco.schema import read_bytes

IsRead = Callable[[dict[str, Any]], bool]
"""Whether an annotation is read; it may be changed to what it is read as."""


def stream_truth(
    path: Path,
    sizes: Mapping[Any, tuple[int, int]],
    *,
    keypoints: int = 0,
    as_read: Callable[[dict[str, Any]], IsRead] | None = None,
) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """What a COCO file holds, but for `annotations`, and these one by one, brought to what evaluators need; see
    `complete_annotation`. Besides the text of the file, memory does not grow with them. Images without a size here are
    left out with their annotations, which get new ids where some are missing or repeat.

    Args:
        path: the file.
        sizes: image id -> (height, width).
        keypoints: how many each object has.
        as_read: is given what the file holds besides annotations, which it may change, and says which of these are read
            and as what; all as they are, by default.
    """
    parts = msgspec.json.decode(read_bytes(path), type=dict[str, msgspec.Raw])
    rows = msgspec.json.decode(parts.pop("annotations", b"[]"), type=list[msgspec.Raw])
    head = {key: msgspec.json.decode(part) for key, part in parts.items()}
    head["images"] = [entry for entry in head["images"] if entry["id"] in sizes]
    is_read = None if as_read is None else as_read(head)
    ids = [_IDS.decode(row) for row in rows]
    there = [row for row, each in zip(rows, ids, strict=True) if each.image_id in sizes]
    own = [each.id for each in ids if each.image_id in sizes]
    numbered = None in own or len(set(own)) < len(own)

    def complete() -> Iterator[dict[str, Any]]:
        number = 0
        for row in there:
            entry: dict[str, Any] = msgspec.json.decode(row)
            size = sizes[entry["image_id"]]
            if (is_read is None or is_read(entry)) and complete_annotation(entry, *size, keypoints=keypoints):
                number += 1
                yield {**entry, "id": number} if numbered else entry

    return head, complete()


class _Ids(msgspec.Struct, gc=False):
    image_id: int
    id: int | None = None


_IDS = msgspec.json.Decoder(_Ids)


def complete_annotation(entry: dict[str, Any], height: int, width: int, *, keypoints: int = 0) -> dict[str, Any] | None:
    """Fill in the box, area and crowd flag of an annotation where they are missing, and, of `keypoints` many, zeros for
    those that are missing or malformed, and how many are labelled. A mask that cannot be used is removed; None if there
    is no box either. What the file gives is left as it is, so that its numbers are the official ones."""
    code = encode(entry.get("segmentation"), height, width)
    if code is None:
        entry.pop("segmentation", None)
    if not entry.get("bbox"):
        if code is None:
            return None
        entry["bbox"] = [float(value) for value in rle.to_bbox(code)]
    if entry.get("area") is None:
        entry["area"] = float(rle.area(code)) if code is not None else entry["bbox"][2] * entry["bbox"][3]
    entry.setdefault("iscrowd", 0)
    if keypoints:
        _complete_keypoints(entry, keypoints)
    return entry


def _complete_keypoints(entry: dict[str, Any], count: int) -> None:
    given = entry.get("keypoints")
    if not given or read_points(msgspec.Raw(msgspec.json.encode(given)), count) is None:
        entry["keypoints"], entry["num_keypoints"] = [0] * (3 * count), 0
    if entry.get("num_keypoints") is None:
        entry["num_keypoints"] = sum(value > 0 for value in entry["keypoints"][2::3])


def encode(segmentation: Any, height: int, width: int) -> dict[str, Any] | None:
    """A COCO segmentation (polygons, or RLE) as compressed RLE; None if it is missing, malformed or empty."""
    try:
        if isinstance(segmentation, list):
            rings = [ring for ring in segmentation if len(ring) >= 6 and len(ring) % 2 == 0]
            code = rle.merge(rle.fr_py_objects(rings, height, width)) if rings else None
        elif isinstance(segmentation, dict) and list(segmentation["size"]) == [height, width]:
            code = segmentation
            if isinstance(code["counts"], list):
                code = rle.fr_py_objects(code, height, width)
        else:
            return None
        return code if code is not None and rle.area(code) > 0 else None
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
