"""COCO's metrics of boxes, masks and keypoints."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hotcoco import COCO, COCOeval
from hotcoco import mask as rle
from numpy.typing import NDArray

from det_datasets.coco.keypoints import PIXEL_CENTRE
from detkit.atomic import write_whole
from detkit.interfaces import Dataset, Evaluator
from detkit.structures.prediction import Prediction

log = logging.getLogger(__name__)

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
KEYPOINT_METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
_SIZES = {"s": "small (below 32 x 32 pixels)", "m": "of medium size (32 x 32 to 96 x 96 pixels)", "l": "large"}


@dataclass
class _Result:
    """The detections of one image: boxes (N, 4) xyxy, scores (N,), labels (N,), masks as compressed counts, keypoints
    (N, K, 3) x, y, score as COCO counts pixels."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    size: tuple[int, int]
    masks: list[str] | None
    keypoints: NDArray[np.float32] | None


class CocoEvaluator(Evaluator):
    """Average precision and recall as COCO defines them, computed by hotcoco, whose numbers are those of pycocotools.

    Sections "bbox" and, where predictions have them, "segm" and "keypoints"; metrics `METRICS`, `KEYPOINT_METRICS` of
    keypoints, from 0 to 1, None where the dataset has nothing to measure them on (`tables` says why). In "segm" an
    object without a usable mask is ignored, in "keypoints" one without labelled keypoints: finding it and missing it
    are neither right nor wrong. The sigmas of keypoints are those of the dataset's categories. As in Detectron2, the
    size of a detection in "keypoints" is that of its box.
    """

    def __init__(self) -> None:
        self._results: dict[int, _Result] = {}

    def start(self, dataset: Dataset) -> None:
        truth = dataset.ground_truth()
        if not isinstance(truth, dict) or not {"images", "annotations", "categories"} <= truth.keys():
            raise ValueError(
                f"{type(dataset).__name__} has no COCO-style ground truth, which the evaluator 'coco' compares with; "
                "use the evaluator of its format"
            )
        if any(len(entry["bbox"]) == 5 for entry in truth["annotations"]):
            raise ValueError("COCO's metrics are of upright boxes, and this dataset has rotated ones")
        self._results = {}
        self._ids = np.asarray(dataset.categories.ids, np.int64)
        self._names = dataset.categories.names
        self._keypoints = dataset.categories.keypoints
        self._counts = dict.fromkeys(dataset.categories.ids, 0)
        for entry in truth["annotations"]:
            self._counts[entry["category_id"]] += not entry["iscrowd"]
        self._images = {entry["id"] for entry in truth["images"]}
        self._truth = {"bbox": COCO(truth), "segm": COCO(_with_masks_alone(truth))}
        self._sections: dict[str, dict[str, float | None]] = {}
        self._by_class: dict[str, dict[str, float | None]] = {}

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        image_id = info["image_id"]
        if image_id not in self._images:
            raise ValueError(f"a prediction for image {image_id!r}, which the dataset does not have")
        if "labels" not in prediction:
            raise ValueError(
                "the evaluator 'coco' compares classes, and these predictions have none; use the evaluator 'proposals'"
            )
        labels = prediction.labels.numpy(force=True).astype(np.int32)
        if len(labels) and labels.max() >= len(self._ids):
            raise ValueError(
                f"a prediction for image {image_id} has label {labels.max()}, but the dataset has {len(self._ids)} "
                "categories; was the model trained on others?"
            )
        self._results[image_id] = _Result(
            boxes=prediction.boxes.numpy(force=True).astype(np.float32),
            scores=prediction.scores.numpy(force=True).astype(np.float32),
            labels=labels,
            size=prediction.image_size,
            masks=_encode(prediction.masks.numpy(force=True)) if "masks" in prediction else None,
            keypoints=self._points(prediction) if "keypoints" in prediction else None,
        )

    def _points(self, prediction: Prediction) -> NDArray[np.float32]:
        if self._keypoints is None or not self._keypoints.sigmas:
            lacks = "annotates no keypoints" if self._keypoints is None else "does not say how exact its keypoints are"
            raise ValueError(
                f"predictions have keypoints, but the dataset {lacks}; in the data YAML give the split keypoints: "
                "{sigmas: [...]}, one for each, as COCO has for persons"
            )
        points = prediction.keypoints.numpy(force=True).astype(np.float32)
        if points.shape[1:] != (len(self._keypoints), 3):
            raise ValueError(f"predictions have {points.shape[1]} keypoints, the dataset {len(self._keypoints)}")
        return points - np.array((PIXEL_CENTRE, PIXEL_CENTRE, 0), np.float32)

    def state(self) -> dict[int, _Result]:
        return self._results

    def merge(self, states: Iterable[dict[int, _Result]]) -> None:
        merged: dict[int, _Result] = {}
        for state in states:
            merged.update(state)
        self._results = merged

    def compute(self) -> dict[str, dict[str, Any]]:
        missing = len(self._images) - len(self._results)
        if missing:
            log.warning("%d of %d images have no prediction; their objects count as missed", missing, len(self._images))
        results = [self._results[image_id] for image_id in sorted(self._results)]
        found = {
            "bbox": True,
            "segm": bool(results) and all(result.masks is not None for result in results),
            "keypoints": bool(results) and all(result.keypoints is not None for result in results),
        }
        self._sections, self._by_class = {}, {}
        for section in (section for section, there in found.items() if there):
            self._evaluate(section)
        return {section: dict(values) for section, values in self._sections.items()}

    def _evaluate(self, section: str) -> None:
        truth = self._truth["segm" if section == "segm" else "bbox"]
        columns = self._columns()
        if section == "bbox":
            detections = truth.load_res(columns)
        elif section == "keypoints":
            detections = truth.load_res(self._entries("keypoints"))
        else:
            codes = self._codes()
            detections = truth.load_res(columns, segmentation=codes)
            # Sizes are those of masks, not of boxes, as for official results, which have masks alone.
            ids = [entry["id"] for entry in detections.dataset["annotations"]]
            detections.update_anns(ids=ids, area=rle.area(codes).astype(np.float64) if codes else np.zeros(0))
        evaluation = COCOeval(truth, detections, section)
        if section == "keypoints":
            assert self._keypoints is not None
            evaluation.params.kpt_oks_sigmas = list(self._keypoints.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summary_lines()  # computes the metrics, without printing them as `summarize` does
        found = evaluation.get_results(per_class=True)
        metrics = KEYPOINT_METRICS if section == "keypoints" else METRICS
        self._sections[section] = {name: _defined(found[name]) for name in metrics}
        self._by_class[section] = {name: _defined(found.get(f"AP/{name}", -1.0)) for name in self._names}

    def _columns(self) -> NDArray[np.float64]:
        """All detections, (D, 7): image id, x, y, width, height, score, category id."""
        parts = [np.zeros((0, 7))]
        for image_id, result in sorted(self._results.items()):
            boxes = result.boxes.astype(np.float64)
            row = np.full((len(boxes), 1), image_id), boxes[:, :2], boxes[:, 2:] - boxes[:, :2], result.scores[:, None]
            parts.append(np.concatenate((*row, self._ids[result.labels][:, None]), axis=1))
        return np.concatenate(parts)

    def _codes(self) -> list[Any]:
        """The masks of all detections, in the order of `_columns`."""
        return [
            {"size": list(result.size), "counts": counts}
            for _, result in sorted(self._results.items())
            for counts in result.masks or ()
        ]

    def _entries(self, *sections: str) -> list[dict[str, Any]]:
        """All detections in COCO's results form, in the order of `_columns`, with what these sections compare."""
        entries = []
        codes = iter(self._codes())
        points = (each for _, result in sorted(self._results.items()) for each in _rows(result.keypoints))
        for row in self._columns().tolist():
            entry: dict[str, Any] = {
                "image_id": int(row[0]),
                "category_id": int(row[6]),
                "bbox": row[1:5],
                "score": row[5],
            }
            if "segm" in sections:
                code = next(codes)
                entry["segmentation"] = {"size": code["size"], "counts": code["counts"]}
            if "keypoints" in sections:
                entry["keypoints"] = next(points).ravel().tolist()
            entries.append(entry)
        return entries

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        sections = list(self._sections)
        metrics = list(dict.fromkeys(metric for section in sections for metric in self._sections[section]))
        summary = [
            (metric, *(_percent(self._sections[section].get(metric)) for section in sections)) for metric in metrics
        ]
        classes = [
            (name, str(self._counts[id]), *(_percent(self._by_class[section][name]) for section in sections))
            for name, id in zip(self._names, self._ids.tolist(), strict=True)
        ]
        undefined = {
            metric: _reason(metric, sum(self._counts.values()))
            for metric in metrics
            if any(values.get(metric, 0.0) is None for values in self._sections.values())
        }
        tables: list[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = [
            ("COCO metrics (%)", ("metric", *sections), summary),
            ("AP by class (%)", ("class", "objects", *sections), classes),
        ]
        if undefined:
            tables.append(("Undefined metrics", ("metric", "reason"), list(undefined.items())))
        return tables

    def save(self, folder: Path) -> None:
        """Write `coco_instances_results.json`, which COCO's own tools read, and `coco_per_class.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "coco_instances_results.json", self._entries(*self._sections))
        _write(folder / "coco_per_class.json", {section: {"AP": values} for section, values in self._by_class.items()})


def _write(path: Path, data: Any) -> None:
    write_whole(path, msgspec.json.encode(data).decode())


def _rows(values: NDArray[np.float32] | None) -> Iterable[NDArray[np.float32]]:
    return () if values is None else values


def _encode(masks: NDArray[np.bool_]) -> list[str]:
    """The compressed counts of masks (N, H, W), all in one call."""
    codes = rle.encode(masks.transpose(1, 2, 0)) if len(masks) else []
    assert isinstance(codes, list)
    return [code["counts"].decode() for code in codes]


def _with_masks_alone(truth: dict[str, Any]) -> dict[str, Any]:
    """The ground truth for masks: an object without one is a crowd that fills its box, which COCO ignores."""
    annotations = [
        entry if "segmentation" in entry else {**entry, "iscrowd": 1, "segmentation": [_corners(*entry["bbox"])]}
        for entry in truth["annotations"]
    ]
    return {**truth, "annotations": annotations}


def _corners(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def _defined(value: float) -> float | None:
    return None if value < 0 else float(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _reason(metric: str, objects: int) -> str:
    if not objects:
        return "the dataset has no annotated objects"
    if metric[-1] not in _SIZES:
        return "the dataset has no object with what is compared"
    return f"the dataset has no object that is {_SIZES[metric[-1]]}"
