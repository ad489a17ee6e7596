"""How many objects have a box near them, whatever its class: average recall of proposals."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from det_datasets.evaluating import Table, checked_id, coco_truth, percent, undefined_table, warn_of_missing
from detkit.data.proposals import write_proposals
from detkit.interfaces import Dataset, Evaluator
from detkit.results import ResultLog, State
from detkit.structures.prediction import Prediction

log = logging.getLogger(__name__)

LIMITS = (100, 1000)
"""Only so many of an image's best boxes count."""
AREAS = {"": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}
"""The sizes of objects in square pixels, both ends included."""
IOUS = np.arange(0.5, 0.951, 0.05)


class ProposalEvaluator(Evaluator):
    """Average recall of boxes of any class, over IoU 0.5 to 0.95 in steps of 0.05 (Hosang et al., 2015), as Detectron2
    computes it for box proposals.

    Section "box_proposals": AR@100, AR@1000, and the same for small, medium and large objects (ARs@100, ...), from 0 to
    1, None where there is no such object. Boxes and objects are paired greedily: the pair that overlaps most first.
    Crowds and difficult objects do not count. Other than in Detectron2, objects of an image without any box count as
    missed.

    `save` writes `proposals.npz` with all boxes, which a dataset reads as `proposals`, if images have numbers.
    """

    title: ClassVar[str] = "Proposals"
    needs: ClassVar[Sequence[str]] = ("boxes",)

    def __init__(self) -> None:
        self._log = ResultLog()

    def start(self, dataset: Dataset) -> None:
        truth = coco_truth(dataset, "proposals")
        if any(len(entry["bbox"]) == 5 for entry in truth["annotations"]):
            raise ValueError("the evaluator 'proposals' is of upright boxes, and this dataset has rotated ones")
        self._log, self._metrics = ResultLog(), dict[str, float | None]()
        objects: dict[int | str, list[tuple[float, ...]]] = {entry["id"]: [] for entry in truth["images"]}
        for entry in truth["annotations"]:
            if not entry["iscrowd"] and not entry.get("ignore"):
                x, y, width, height = entry["bbox"]
                objects[entry["image_id"]].append((x, y, x + width, y + height, entry["area"]))
        self._objects = {image: np.array(rows, np.float64).reshape(-1, 5) for image, rows in objects.items()}

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        image_id = checked_id(info, self._objects)
        scores = prediction.scores.numpy(force=True).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        boxes = prediction.boxes.numpy(force=True).astype(np.float32)
        record = {"boxes": boxes[order], "scores": scores[order], "file_name": Path(info["path"]).name}
        self._log.append(image_id, record)

    def state(self) -> State:
        return self._log.state()

    def merge(self, states: Iterable[State]) -> None:
        self._log.merge(states)

    def compute(self) -> dict[str, dict[str, Any]]:
        warn_of_missing(len(self._objects), len(self._log), "their objects count as missed")
        found: dict[str, list[NDArray[np.float64]]] = {f"AR{size}@{limit}": [] for limit in LIMITS for size in AREAS}
        for image_id in sorted(self._objects):
            objects = self._objects[image_id]
            boxes = self._log[image_id]["boxes"].astype(np.float64) if image_id in self._log else np.zeros((0, 4))
            for limit in LIMITS:
                overlaps = _iou(boxes[:limit], objects[:, :4])
                for size, (least, most) in AREAS.items():
                    wanted = (objects[:, 4] >= least) & (objects[:, 4] <= most)
                    found[f"AR{size}@{limit}"].append(pair_greedily(overlaps[:, wanted]))
        self._metrics = {name: _recall(np.concatenate([np.zeros(0), *each])) for name, each in found.items()}
        return {"box_proposals": dict(self._metrics)}

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        names = {"": "all", "s": "small", "m": "medium", "l": "large"}
        rows = [(names[size], *(percent(self._metrics[f"AR{size}@{limit}"]) for limit in LIMITS)) for size in AREAS]
        table: Table = ("Average recall of proposals (%)", ("objects", *(f"AR@{limit}" for limit in LIMITS)), rows)
        lacking = [names[size] for size in AREAS if self._metrics[f"AR{size}@{LIMITS[0]}"] is None]
        return [table, *undefined_table(((name, "the dataset has no such object") for name in lacking), "objects")]

    def reasons(self) -> Mapping[str, Mapping[str, str]]:
        return {"box_proposals": dict.fromkeys(self._metrics, "the dataset has no such object")}

    def save(self, folder: Path) -> None:
        """Write `proposals.npz`: see `detkit.data.proposals`."""
        image_ids = list(self._log)
        if any(isinstance(image_id, str) for image_id in image_ids):
            log.warning("proposals.npz is not written: it is for images with numbers, and these have names")
            return
        folder.mkdir(parents=True, exist_ok=True)
        records = [record for _, record in self._log.items()]
        write_proposals(
            folder / "proposals.npz",
            [int(image_id) for image_id in image_ids],
            [record["boxes"] for record in records],
            [record["scores"] for record in records],
            [record["file_name"] for record in records],
        )


def _recall(found: NDArray[np.float64]) -> float | None:
    return float((found[:, None] >= IOUS).mean()) if len(found) else None


def pair_greedily(overlaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """The overlaps (M,) of the pairs that N boxes and M objects with overlaps (N, M) form when the pair that overlaps
    most is taken first, then that of the others, and so on; 0 for objects that no box is left for. In the order of
    pairing."""
    overlaps = overlaps.copy()
    found = np.zeros(overlaps.shape[1])
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
