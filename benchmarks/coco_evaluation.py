"""COCO's metrics: the evaluator "coco" against pycocotools, to the last digit."""

from __future__ import annotations

import contextlib
import copy
import io
import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from hotcoco import mask as rle
from numpy.typing import NDArray

from benchmarks.measure import ratio
from det_datasets.coco.evaluator import CocoEvaluator
from detkit.interfaces import Dataset
from detkit.structures.categories import Categories
from detkit.structures.placed_masks import encode_masks
from detkit.structures.prediction import Prediction

IMAGES, DETECTIONS, CLASSES = 5000, 100, 80
SIZE = (480, 640)
CORNERS = 20


def main(rounds: int, images: int = IMAGES) -> dict[str, Any]:
    """Evaluate made-up predictions with both, `rounds` times in turn (pycocotools takes minutes: at most 3), check that
    all numbers are equal, and print seconds and ratios.

    Ours are the seconds from predictions as a model answers them to metrics: `start`, `add`, `compute`. Masks are given
    to both as RLE: encoding them is measured by itself.
    """
    dataset, predictions = made_up(images)
    figures: dict[str, Any] = {"images": images, "encode 100 masks": _encoding()}
    for section in ("bbox", "segm"):
        seconds: dict[str, list[float]] = {"ours": [], "pycocotools": []}
        for _ in range(min(rounds, 3)):
            for name, side in (("ours", ours), ("pycocotools", theirs)):
                start = time.perf_counter()
                metrics = side(dataset, predictions, section)
                seconds[name].append(time.perf_counter() - start)
                if name == "ours":
                    expected = metrics
            if metrics != expected:
                raise AssertionError(f"{section}: {expected} is not {metrics}")
        figures[section] = {name: statistics.median(each) for name, each in seconds.items()}
        figures[section]["times as fast"] = ratio(seconds, "ours", "pycocotools")
        print(
            f"\nCOCO evaluation of {images} images with {DETECTIONS} detections each, {section}: "
            f"{figures[section]['ours']:.2f} s, pycocotools {figures[section]['pycocotools']:.1f} s, "
            f"{figures[section]['times as fast']:.1f} times as fast; the twelve numbers are equal: "
            f"AP {metrics[0]:.5f}"
        )
    print(f"Encoding 100 masks of {SIZE[0]} x {SIZE[1]} pixels: {1000 * figures['encode 100 masks']:.0f} ms")
    return figures


class Truth(Dataset):
    """Objects without images."""

    def __init__(self, truth: Mapping[str, Any]) -> None:
        self.truth = truth
        self.categories = Categories(tuple(entry["name"] for entry in truth["categories"]))

    def __len__(self) -> int:
        return len(self.truth["images"])

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError

    def size(self, index: int) -> tuple[int, int]:
        return SIZE

    def ground_truth(self) -> Any:
        return self.truth


def made_up(images: int) -> tuple[Truth, list[dict[str, Any]]]:
    """A ground truth as large as COCO's (7 objects an image, of few classes each, some crowds), and for each image
    predictions (`boxes`, `scores`, `labels`, and `masks` as RLE): some near objects, the better the surer, others
    anywhere."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, CLASSES + 1)
    popularity /= popularity.sum()
    annotations: list[dict[str, Any]] = []
    predictions = []
    for image in range(1, images + 1):
        count = rng.poisson(7.3)
        labels = rng.choice(rng.choice(CLASSES, 3, p=popularity), count)
        sides = np.exp(rng.uniform(np.log(8), np.log(400), (count, 2)))
        boxes = _boxes(rng, sides)
        shapes = 1 - 0.3 * rng.random((count, CORNERS))
        for label, box, polygon in zip(labels.tolist(), boxes, _polygons(boxes, shapes), strict=True):
            crowd = int(rng.random() < 0.01)
            code = _code(rle.fr_poly(polygon.tolist(), *SIZE))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": label + 1,
                    "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
                    "area": float(rle.area(code)),
                    "iscrowd": crowd,
                    "segmentation": code if crowd else [polygon.round(2).tolist()],
                }
            )
        near = rng.integers(0, max(count, 1), DETECTIONS) if count else np.zeros(0, np.int64)
        near = near[rng.random(len(near)) < 0.5]
        error = rng.gamma(1.5, 0.05, (len(near), 1))
        moved = boxes[near] + rng.normal(0, 1, (len(near), 4)) * error * np.tile(sides[near], 2)
        others = DETECTIONS - len(near)
        anywhere = _boxes(rng, np.exp(rng.uniform(np.log(8), np.log(400), (others, 2))))
        found = np.concatenate((_ordered(moved), anywhere)).astype(np.float32)
        outlines = np.concatenate((shapes[near], 1 - 0.3 * rng.random((others, CORNERS))))
        guessed = rng.choice(labels if count else CLASSES, others)
        scores = np.concatenate((np.exp(-6 * error[:, 0]) * rng.uniform(0.5, 1, len(near)), 0.4 * rng.random(others)))
        order = np.argsort(-scores)
        codes = rle.fr_py_objects([each.tolist() for each in _polygons(found, outlines)[order]], *SIZE)
        predictions.append(
            {
                "image_id": image,
                "boxes": torch.from_numpy(found[order]),
                "scores": torch.from_numpy(scores[order].astype(np.float32)),
                "labels": torch.from_numpy(np.concatenate((labels[near], guessed))[order].astype(np.int64)),
                "masks": [_code(code) for code in codes],
            }
        )
    truth = {
        "images": [{"id": image, "height": SIZE[0], "width": SIZE[1]} for image in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": label + 1, "name": f"class {label}"} for label in range(CLASSES)],
    }
    return Truth(truth), predictions


def _boxes(rng: np.random.Generator, sides: NDArray[np.float64]) -> NDArray[np.float64]:
    corners = rng.random((len(sides), 2)) * (np.array(SIZE[::-1]) - sides)
    return np.concatenate((corners, corners + sides), axis=1)


def _ordered(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.concatenate((low, np.maximum(high, low + 1)), axis=1)


def _polygons(boxes: NDArray[Any], shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2 x corners): ellipses in boxes (N, 4) with dents."""
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    rays = np.stack((np.cos(angles), np.sin(angles)), axis=1) * shapes[..., None]
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    points: NDArray[np.float64] = (center[:, None] + rays * half[:, None]).clip(0, SIZE[::-1])
    return points.reshape(len(boxes), 2 * CORNERS)


def _code(code: dict[str, Any]) -> dict[str, Any]:
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


def ours(dataset: Truth, predictions: list[dict[str, Any]], section: str) -> list[float | None]:
    """The twelve numbers of the evaluator."""
    evaluator = CocoEvaluator(sections=[section])
    evaluator.start(dataset)
    names = ("boxes", "scores", "labels", *(("masks",) if section == "segm" else ()))
    for each in predictions:
        evaluator.add(Prediction(SIZE, **{name: each[name] for name in names}), {"image_id": each["image_id"]})
    return list(evaluator.compute()[section].values())


def theirs(dataset: Truth, predictions: list[dict[str, Any]], section: str) -> list[float | None]:
    """Those of pycocotools, from result dicts as COCO's files hold them."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    entries = []
    for each in predictions:
        boxes = each["boxes"].double()
        boxes[:, 2:] -= boxes[:, :2]
        rows = zip(boxes.tolist(), each["scores"].tolist(), each["labels"].tolist(), each["masks"], strict=True)
        for box, score, label, code in rows:
            what = {"bbox": box} if section == "bbox" else {"segmentation": code}
            entries.append({"image_id": each["image_id"], "category_id": label + 1, "score": score, **what})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset.truth)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(entries), section)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [None if value < 0 else float(value) for value in evaluation.stats]


def _encoding() -> float:
    """Seconds."""
    rng = np.random.default_rng(0)
    boxes = _boxes(rng, np.exp(rng.uniform(np.log(8), np.log(400), (100, 2))))
    polygons = _polygons(boxes, np.ones((100, CORNERS)))
    masks = rle.decode(rle.fr_py_objects(polygons.tolist(), *SIZE)).transpose(2, 0, 1).astype(bool)
    start = time.perf_counter()
    encode_masks(np.ascontiguousarray(masks))
    return time.perf_counter() - start
