"""How many objects have a box near them, whatever its class: average recall of proposals."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.proposals import write_proposals
from detkit.interfaces import Dataset, Evaluator
from detkit.structures.prediction import Prediction

log = logging.getLogger(__name__)

LIMITS = (100, 1000)
"""Only so many of an image's best boxes count."""
AREAS = {"": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}
"""The sizes of objects in square pixels, both ends included."""
IOUS = np.arange(0.5, 0.951, 0.05)


@dataclass
class _Result:
    """The boxes (N, 4) xyxy of one image, best first, their scores (N,), and the name of its file."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    file_name: str


class ProposalEvaluator(Evaluator):
    """Average recall of boxes of any class, over IoU 0.5 to 0.95 in steps of 0.05 (Hosang et al., 2015), as Detectron2
    computes it for box proposals.

    Section "box_proposals": AR@100, AR@1000, and the same for small, medium and large objects (ARs@100, ...), from 0 to
    1, None where there is no such object. Boxes and objects are paired greedily: the pair that overlaps most first.
    Crowds do not count. Other than in Detectron2, objects of an image without any box count as missed.

    `save` writes `proposals.npz` with all boxes, which a dataset reads as `proposals`.
    """

    def __init__(self) -> None:
        self._results: dict[int, _Result] = {}

    def start(self, dataset: Dataset) -> None:
        truth = dataset.ground_truth()
        if not isinstance(truth, dict) or not {"images", "annotations"} <= truth.keys():
            raise ValueError(
                f"{type(dataset).__name__} has no COCO-style ground truth, which the evaluator 'proposals' needs"
            )
        self._results, self._metrics = {}, dict[str, float | None]()
        objects: dict[int, list[tuple[float, ...]]] = {entry["id"]: [] for entry in truth["images"]}
        for entry in truth["annotations"]:
            if not entry["iscrowd"]:
                x, y, width, height = entry["bbox"]
                objects[entry["image_id"]].append((x, y, x + width, y + height, entry["area"]))
        self._objects = {image: np.array(rows, np.float64).reshape(-1, 5) for image, rows in objects.items()}

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        image_id = info["image_id"]
        if image_id not in self._objects:
            raise ValueError(f"a prediction for image {image_id!r}, which the dataset does not have")
        scores = prediction.scores.numpy(force=True).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        boxes = prediction.boxes.numpy(force=True).astype(np.float32)
        self._results[image_id] = _Result(boxes[order], scores[order], Path(info["path"]).name)

    def state(self) -> dict[int, _Result]:
        return self._results

    def merge(self, states: Iterable[dict[int, _Result]]) -> None:
        merged: dict[int, _Result] = {}
        for state in states:
            merged.update(state)
        self._results = merged

    def compute(self) -> dict[str, dict[str, Any]]:
        missing = len(self._objects) - len(self._results)
        if missing:
            log.warning("%d of %d images have no boxes; their objects count as missed", missing, len(self._objects))
        self._metrics = {f"AR{size}@{limit}": self._recall(limit, *AREAS[size]) for limit in LIMITS for size in AREAS}
        return {"box_proposals": dict(self._metrics)}

    def _recall(self, limit: int, least: float, most: float) -> float | None:
        overlaps = []
        for image_id, objects in self._objects.items():
            wanted = objects[(objects[:, 4] >= least) & (objects[:, 4] <= most), :4]
            result = self._results.get(image_id)
            boxes = np.zeros((0, 4)) if result is None else result.boxes[:limit].astype(np.float64)
            overlaps.append(pair_greedily(boxes, wanted))
        found = np.concatenate([np.zeros(0), *overlaps])
        return float((found[:, None] >= IOUS).mean()) if len(found) else None

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        def cell(size: str, limit: int) -> str:
            value = self._metrics[f"AR{size}@{limit}"]
            return "-" if value is None else f"{100 * value:.1f}"

        names = {"": "all", "s": "small", "m": "medium", "l": "large"}
        rows = [(names[size], *(cell(size, limit) for limit in LIMITS)) for size in AREAS]
        return [("Average recall of proposals (%)", ("objects", *(f"AR@{limit}" for limit in LIMITS)), rows)]

    def save(self, folder: Path) -> None:
        """Write `proposals.npz`: see `detkit.data.proposals`."""
        folder.mkdir(parents=True, exist_ok=True)
        results = sorted(self._results.items())
        write_proposals(
            folder / "proposals.npz",
            [image_id for image_id, _ in results],
            [result.boxes for _, result in results],
            [result.scores for _, result in results],
            [result.file_name for _, result in results],
        )


def pair_greedily(boxes: NDArray[np.float64], objects: NDArray[np.float64]) -> NDArray[np.float64]:
    """The IoU (M,) of the pairs that boxes (N, 4) and objects (M, 4) form when the pair with the largest IoU is taken
    first, then that of the others, and so on; 0 for objects that no box is left for. In the order of pairing."""
    found = np.zeros(len(objects))
    overlaps = _iou(boxes, objects)
    for place in range(min(overlaps.shape)):
        box, target = np.unravel_index(overlaps.argmax(), overlaps.shape)
        found[place] = overlaps[box, target]
        overlaps[box], overlaps[:, target] = -1, -1
    return found


def _iou(boxes: NDArray[np.float64], objects: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M); 0 where both are empty."""
    low = np.maximum(boxes[:, None, :2], objects[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], objects[None, :, 2:])
    overlap = (high - low).clip(min=0).prod(axis=2)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, objects)]
    union = areas[0][:, None] + areas[1] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=overlap > 0)
