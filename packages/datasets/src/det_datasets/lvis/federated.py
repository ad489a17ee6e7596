"""Which detections LVIS compares: the best of an image or of a class, where it is known whether they are right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLUMNS = ("boxes", "scores", "labels", "areas")
_LISTS = ("masks", "boundaries")

Record = tuple[Any, dict[str, Any]]
"""An image's id, and what is kept of its predictions; see `CocoEvaluator`."""


def judged_classes(truth: Mapping[str, Any], ids: Sequence[int]) -> dict[Any, NDArray[np.int64]]:
    """Image id -> labels, rising, of the classes that the image is known to have, or not to have.

    Args:
        truth: COCO dict with `neg_category_ids` of each image.
        ids: the dataset's own ids of labels 0, 1, ...
    """
    labels = {id: label for label, id in enumerate(ids)}
    found = {image["id"]: set(image["neg_category_ids"]) for image in truth["images"]}
    for entry in truth["annotations"]:
        found[entry["image_id"]].add(entry["category_id"])
    return {
        image: np.array(sorted(labels[id] for id in known if id in labels), np.int64) for image, known in found.items()
    }


def best_of_images(records: Iterable[Record], limit: int) -> Iterator[Record]:
    """Of each image no more than so many detections, those with the best scores, whatever their classes."""
    for image_id, record in records:
        order = np.argsort(-record["scores"], kind="stable")
        yield image_id, rows_of(record, order[:limit]) if len(order) > limit else record


class BestOfClasses:
    """Of each class no more than so many detections in all images: those with the best scores, of equal ones those of
    the first images.

    Args:
        records: all images, in the order of their ids.
        limit: of detections.
    """

    def __init__(self, records: Iterable[Record], limit: int) -> None:
        self._images: list[Any] = []
        parts: list[tuple[NDArray[np.float32], NDArray[np.int32]]] = []
        for image_id, record in records:
            self._images.append(image_id)
            parts.append((record["scores"], record["labels"]))
        empty = (np.zeros(0, np.float32), np.zeros(0, np.int32))
        scores, labels = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
        order = np.lexsort((-scores, labels))  # stable
        ordered = labels[order]
        kept = np.empty(len(order), bool)
        kept[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered) < limit
        ends = np.cumsum([len(part) for part, _ in parts])
        self._kept = dict(zip(self._images, np.split(kept, ends[:-1]), strict=True)) if parts else {}

    def of(self, records: Iterable[Record]) -> Iterator[Record]:
        """What is left of the records of all images."""
        for image_id, record in records:
            yield image_id, rows_of(record, np.flatnonzero(self._kept[image_id]))


def judged(records: Iterable[Record], classes: Mapping[Any, NDArray[np.int64]]) -> Iterator[Record]:
    """Only detections of classes of which it is known whether an image has them; see `judged_classes`."""
    for image_id, record in records:
        yield image_id, rows_of(record, np.flatnonzero(np.isin(record["labels"], classes[image_id])))


def rows_of(record: Mapping[str, Any], rows: NDArray[np.int64]) -> dict[str, Any]:
    """Some detections of an image."""
    chosen = dict(record)
    for name in _COLUMNS:
        if name in record:
            chosen[name] = record[name][rows]
    for name in _LISTS:
        if name in record:
            chosen[name] = [record[name][row] for row in rows.tolist()]
    return chosen
