"""Annotations as evaluators need them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from hotcoco import mask as rle

from det_datasets.coco.keypoints import read_points


def complete_truth(data: dict[str, Any], sizes: Mapping[Any, tuple[int, int]], *, keypoints: int = 0) -> dict[str, Any]:
    """Bring what a COCO file holds to what evaluators need; see `complete_annotation`. Images without a size here are
    left out with their annotations, and annotations get new ids where some are missing or repeat.

    Args:
        data: is changed.
        sizes: image id -> (height, width).
        keypoints: how many each object has.
    """
    data["images"] = [entry for entry in data["images"] if entry["id"] in sizes]
    complete = (
        complete_annotation(entry, *sizes[entry["image_id"]], keypoints=keypoints)
        for entry in data.get("annotations", ())
        if entry["image_id"] in sizes
    )
    data["annotations"] = [entry for entry in complete if entry is not None]
    ids = [entry.get("id") for entry in data["annotations"]]
    if None in ids or len(set(ids)) < len(ids):
        for number, entry in enumerate(data["annotations"], start=1):
            entry["id"] = number
    return data


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
