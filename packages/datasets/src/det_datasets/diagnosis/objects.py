"""The objects of a dataset as a diagnosis needs them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from det_datasets.coco.ground_truth import encode
from detkit.ops.rotated_iou import rotated_iou
from detkit.structures.categories import Categories

SIZES: Mapping[str, str] = {
    "s": "small (below 32 x 32 pixels)",
    "m": "medium (up to 96 x 96 pixels)",
    "l": "large",
}
CROWDING: Mapping[str, str] = {
    "apart": "apart (at most 10 % of the box inside that of another object)",
    "overlapped": "overlapped (10 to 50 %)",
    "crowded": "crowded (more than 50 %)",
}
MARKS = ("occluded", "truncated")
"""What some formats say of objects, as keys of annotations."""
_SIZE_ENDS = np.array((32.0**2, 96.0**2))
_CROWDING_ENDS = np.array((0.1, 0.5))


@dataclass(frozen=True)
class ImageTruth:
    """G objects of an image.

    Args:
        boxes: (G, 4) xyxy or (G, 5) rotated, in float64.
        labels: (G,).
        ignored: (G,) objects that need not be found: crowds, difficult ones, those without what is compared.
        crowd: (G,) objects that stand for several.
        masks: compressed RLE of each, if masks are compared.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    masks: list[dict[str, Any]] | None


class Objects:
    """All A objects of a dataset, those of an image beside each other, images in the order of their ids.

    Args:
        truth: COCO dict.
        categories: of the labels.
        masks: whether masks are compared; an object without one then is a crowd that fills its box.
    """

    def __init__(self, truth: Mapping[str, Any], categories: Categories, *, masks: bool) -> None:
        entries: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for entry in truth["annotations"]:
            entries[entry["image_id"]].append(entry)
        sizes = {image["id"]: (image.get("height", 0), image.get("width", 0)) for image in truth["images"]}
        self.sizes = sizes
        self.image_ids = sorted(sizes)
        ordered = [entry for image_id in self.image_ids for entry in entries[image_id]]
        counts = [len(entries[image_id]) for image_id in self.image_ids]
        self.ends = dict(zip(self.image_ids, np.cumsum(counts, dtype=np.int64).tolist(), strict=True))
        self.counts = dict(zip(self.image_ids, counts, strict=True))
        self.image = np.repeat(np.arange(len(counts)), counts)
        self.labels = np.array([categories.label_of_id(entry["category_id"]) for entry in ordered], np.int64)
        self.crowd = np.array([entry["iscrowd"] for entry in ordered], bool)
        self.difficult = np.array([bool(entry.get("ignore")) for entry in ordered], bool)
        self.boxes = _boxes(ordered)
        self.masks: list[dict[str, Any]] | None = None
        if masks:
            codes = [encode(entry.get("segmentation"), *sizes[entry["image_id"]]) for entry in ordered]
            without = np.array([code is None for code in codes], bool)
            self.crowd |= without
            self.masks = [
                code or _box_code(entry, *sizes[entry["image_id"]]) for code, entry in zip(codes, ordered, strict=True)
            ]
        self._shapes = [_encoded_shape(entry) for entry in ordered]
        self.ignored = self.crowd | self.difficult
        self.size = np.digitize([entry["area"] for entry in ordered], _SIZE_ENDS)  # a place in SIZES
        self.crowding = self._crowding()  # a place in CROWDING
        self.marks = {
            name: np.array([bool(entry.get(name)) for entry in ordered], bool)
            for name in MARKS
            if any(name in entry for entry in ordered)
        }

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, image_id: Any) -> int:
        """The place of an image's first object."""
        return int(self.ends[image_id] - self.counts[image_id])

    def of_image(self, image_id: Any) -> ImageTruth:
        """The objects of an image."""
        rows = slice(self.first(image_id), self.ends[image_id])
        masks = None if self.masks is None else self.masks[rows]
        return ImageTruth(self.boxes[rows], self.labels[rows], self.ignored[rows], self.crowd[rows], masks)

    def shape(self, image_id: Any, row: int) -> dict[str, Any]:
        """The `segmentation` and `keypoints` of one of an image's objects, as far as it has them."""
        encoded = self._shapes[self.first(image_id) + row]
        found: dict[str, Any] = msgspec.msgpack.decode(encoded) if encoded else {}
        return found

    def _crowding(self) -> NDArray[np.int64]:
        """(A,): how much of each object's box is inside the one that covers it most."""
        covered = np.zeros(len(self))
        for image_id in self.image_ids:
            rows = slice(self.first(image_id), self.ends[image_id])
            if self.counts[image_id] > 1:
                shared = intersections(self.boxes[rows], self.boxes[rows])
                np.fill_diagonal(shared, 0)
                covered[rows] = shared.max(axis=1) / np.maximum(areas_of(self.boxes[rows]), 1e-9)
        return np.digitize(covered, _CROWDING_ENDS, right=True)


def _encoded_shape(entry: Mapping[str, Any]) -> bytes:
    """What only drawing needs, in a tenth of the memory that lists of numbers take."""
    shape = {name: entry[name] for name in ("segmentation", "keypoints") if name in entry}
    return msgspec.msgpack.encode(shape) if shape else b""


def areas_of(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) of boxes (N, 4) or (N, 5)."""
    if boxes.shape[1] == 5:
        return boxes[:, 2] * boxes[:, 3]
    areas: NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)
    return areas


def intersections(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas (N, M) that boxes share, both upright or both rotated."""
    if a.shape[1] == 5:
        iou = rotated_iou(torch.from_numpy(a), torch.from_numpy(b)).double().numpy()
        shared: NDArray[np.float64] = iou / (1 + iou) * (areas_of(a)[:, None] + areas_of(b))
        return shared
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    return shared


def _boxes(entries: list[dict[str, Any]]) -> NDArray[np.float64]:
    rotated = any(len(entry["bbox"]) == 5 for entry in entries)
    boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 5 if rotated else 4)
    if not rotated:
        boxes[:, 2:] += boxes[:, :2]
    return boxes


def _box_code(entry: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    x, y, w, h = entry["bbox"]
    code = encode([[x, y, x + w, y, x + w, y + h, x, y + h]], height, width)
    return code or {"size": [height, width], "counts": b""}
