"""The segments of any dataset that has them, or has what they consist of: masks of things and labels of stuff."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from det_datasets.panoptic.classes import stuff_labels
from detkit.data.targets import rasterized
from detkit.interfaces import Dataset

IDS = 1 << 24
"""Ids of segments are smaller: three bytes, a colour."""


def require_segments(dataset: Dataset, format: str = "", classes: Collection[str] | None = None) -> None:
    """ValueError if `segments_of` has nothing to make segments from, or finds classes that a format does not have.

    Args:
        dataset: whose segments are asked for.
        format: its name.
        classes: all that it has; None for any.
    """
    if not dataset.has_panoptic and (dataset.semantic_categories is None or not dataset.has_masks):
        raise ValueError(
            "the dataset has no panoptic segments, nor masks of objects and labels of pixels to make them from"
        )
    assert dataset.semantic_categories is not None
    labelled = {*dataset.categories.names, *dataset.semantic_categories.names} - {"things"}
    if classes is not None and (unknown := sorted(labelled - set(classes))):
        raise ValueError(f"{format} has no classes {', '.join(unknown)}; it has {', '.join(classes)}")


def segments_of(dataset: Dataset, index: int) -> tuple[NDArray[np.int32], list[dict[str, Any]]]:
    """What `Dataset.panoptic_map` gives, of an image at a position; where the dataset does not have it, the masks of
    objects, later ones in front of earlier ones, and elsewhere the labels of stuff. The ids are colours that differ
    visibly, from 1 to IDS - 1; a segment also has the `name` of its class."""
    if dataset.has_panoptic:
        ids, segments = dataset.panoptic_map(dataset.image_id(index))
        numbers = ids.numpy()
    else:
        numbers, segments = _merged(dataset, index)
    colours = np.zeros(max(numbers.max(), *(segment["id"] for segment in segments), 0) + 1, np.int32)
    renamed = []
    for number, segment in enumerate(segments, start=1):
        colours[segment["id"]] = id = number * 0x9E3779 % IDS  # odd: no two are the same
        known = dataset.categories if segment["isthing"] else dataset.semantic_categories
        assert known is not None
        renamed.append({**segment, "id": id, "name": known.names[segment["label"]]})
    return colours[numbers], renamed


def _merged(dataset: Dataset, index: int) -> tuple[NDArray[np.int32], list[dict[str, Any]]]:
    assert dataset.semantic_categories is not None
    sample = dataset[index]
    plain = rasterized(sample)
    pixels = plain["semantic"].numpy()
    numbers = np.zeros(pixels.shape, np.int32)
    found: list[dict[str, Any]] = []
    for mask, label, crowd in zip(plain["masks"], plain["labels"].tolist(), _crowd(sample.target), strict=True):
        found.append({"id": len(found) + 1, "isthing": True, "label": label, "iscrowd": crowd})
        numbers[mask.numpy() > 0] = len(found)
    free = numbers == 0
    for label in stuff_labels(dataset.categories, dataset.semantic_categories):
        found.append({"id": len(found) + 1, "isthing": False, "label": label, "iscrowd": False})
        numbers[free & (pixels == label)] = len(found)
    areas = np.bincount(numbers.ravel(), minlength=len(found) + 1)[1:].tolist()
    return numbers, [{**segment, "area": area} for segment, area in zip(found, areas, strict=True) if area]


def _crowd(target: dict[str, Any]) -> list[bool]:
    crowd: Tensor = target["crowd"]
    return crowd.tolist()
