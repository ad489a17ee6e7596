"""What no library evaluates, against COCO's rules one detection, object and threshold at a time, in plain floats."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from det_datasets.coco.boundary import boundaries_of
from det_datasets.coco.dataset import CocoDataset
from det_datasets.coco.evaluator import CocoEvaluator
from det_datasets.coco.matching import match
from detkit.interfaces import Dataset
from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction

SIZE = (60, 80)
Write = Callable[..., CocoDataset]


class Truth(Dataset):
    """Nothing but a ground truth."""

    def __init__(self, truth: Mapping[str, Any]) -> None:
        self.truth = truth
        self.categories = Categories(
            tuple(entry["name"] for entry in truth["categories"]),
            ids=tuple(entry["id"] for entry in truth["categories"]),
        )

    def __len__(self) -> int:
        return len(self.truth["images"])

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError

    def size(self, index: int) -> tuple[int, int]:
        return SIZE

    def ground_truth(self) -> Any:
        return self.truth


def truth_of(objects: Sequence[dict[str, Any]], images: Sequence[Any]) -> Truth:
    """A dataset of entries as `average_precision` takes them."""
    annotations = [
        {
            "id": number,
            "image_id": entry["image"],
            "category_id": 10 * entry["label"] + 3,
            "bbox": list(entry["box"]),
            "area": entry["area"],
            "iscrowd": int(entry["crowd"]),
            **({"ignore": 1} if entry["ignored"] else {}),
            **({"segmentation": entry["code"]} if "code" in entry else {}),
        }
        for number, entry in enumerate(objects, start=1)
    ]
    return Truth(
        {
            "images": [{"id": id, "height": SIZE[0], "width": SIZE[1]} for id in images],
            "annotations": annotations,
            "categories": [{"id": 10 * label + 3, "name": f"class {label}"} for label in range(3)],
        }
    )


def evaluated(dataset: Truth, detections: Sequence[dict[str, Any]], **options: Any) -> dict[str, dict[str, Any]]:
    """The metrics of detections."""
    evaluator = CocoEvaluator(**options)
    evaluator.start(dataset)
    for image in dataset.truth["images"]:
        mine = [entry for entry in detections if entry["image"] == image["id"]]
        fields: dict[str, Any] = {
            "boxes": torch.tensor([entry["box"] for entry in mine], dtype=torch.float32).reshape(
                -1, len(detections[0]["box"])
            ),
            "scores": torch.tensor([entry["score"] for entry in mine]),
            "labels": torch.tensor([entry["label"] for entry in mine], dtype=torch.int64),
        }
        if "mask" in detections[0]:
            fields["masks"] = torch.from_numpy(np.array([entry["mask"] for entry in mine], bool).reshape(-1, *SIZE))
        evaluator.add(Prediction(SIZE, **fields), {"image_id": image["id"]})
    return evaluator.compute()


THRESHOLDS = [0.5 + 0.05 * step for step in range(10)]


def average_precision(
    detections: Sequence[Any],
    objects: Sequence[Any],
    overlap: Callable[[Any, Any], float],
    *,
    low: float = 0.0,
    high: float = 1e10,
    limit: int = 100,
    thresholds: Sequence[float] = THRESHOLDS,
) -> tuple[float | None, float | None]:
    """AP and AR, means over classes and thresholds. Entries are dicts: image, label, area; score of detections; crowd
    and ignored of objects."""
    precisions, recalls = [], []
    for label in sorted({entry["label"] for entry in objects}):
        for threshold in thresholds:
            found = _curve(
                [entry for entry in detections if entry["label"] == label],
                [entry for entry in objects if entry["label"] == label],
                overlap,
                (low, high),
                limit,
                threshold,
            )
            if found is not None:
                precisions.append(found[0])
                recalls.append(found[1])
    return (_mean(precisions), _mean(recalls)) if precisions else (None, None)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _curve(
    detections: Sequence[Any],
    objects: Sequence[Any],
    overlap: Callable[[Any, Any], float],
    area: tuple[float, float],
    limit: int,
    threshold: float,
) -> tuple[float, float] | None:
    def outside(entry: Any) -> bool:
        return not area[0] <= entry["area"] <= area[1]

    aside = {id(entry): entry["crowd"] or entry["ignored"] or outside(entry) for entry in objects}
    wanted = sum(not each for each in aside.values())
    if not wanted:
        return None
    rows: list[tuple[float, bool]] = []  # score, whether right; those that do not count are left out
    for image in sorted({entry["image"] for entry in detections}):
        mine = sorted((d for d in detections if d["image"] == image), key=lambda entry: -entry["score"])[:limit]
        there = [entry for entry in objects if entry["image"] == image]
        taken: set[int] = set()
        for detection in mine:
            best = None
            for regular in (True, False):
                for entry in there:
                    if aside[id(entry)] == regular or (id(entry) in taken and not entry["crowd"]):
                        continue
                    iou = overlap(detection, entry)
                    if iou >= min(threshold, 1 - 1e-10) and (best is None or iou >= best[0]):
                        best = iou, entry
                if best is not None:
                    break
            if best is not None:
                taken.add(id(best[1]))
                if not aside[id(best[1])]:
                    rows.append((detection["score"], True))
            elif not outside(detection):
                rows.append((detection["score"], False))
    rows.sort(key=lambda row: -row[0])
    right = 0
    points = []  # recall, precision
    for count, (_, hit) in enumerate(rows, start=1):
        right += hit
        points.append((right / wanted, right / count))
    steps = [max((p for r, p in points if r >= step / 100 - 1e-12), default=0.0) for step in range(101)]
    return _mean(steps), right / wanted


def rotated_overlap(detection: Any, entry: Any) -> float:
    """IoU of boxes cx, cy, w, h, degrees counter-clockwise (y down): by clipping one polygon with the other's edges."""
    first, second = _corners(detection["box"]), _corners(entry["box"])
    shape = first
    for (ax, ay), (bx, by) in zip(second, second[1:] + second[:1], strict=True):
        sides = [(bx - ax) * (y - ay) - (by - ay) * (x - ax) for x, y in shape]
        clipped = []
        for index, point in enumerate(shape):
            following, side, next_side = shape[(index + 1) % len(shape)], sides[index], sides[(index + 1) % len(shape)]
            if side >= 0:
                clipped.append(point)
            if side * next_side < 0:
                share = side / (side - next_side)
                clipped.append(tuple(a + share * (b - a) for a, b in zip(point, following, strict=True)))
        shape = clipped
    shared = abs(_area(shape))
    areas = [box["box"][2] * box["box"][3] for box in (detection, entry)]
    return shared / areas[0] if entry["crowd"] else shared / (sum(areas) - shared)


def _corners(box: Sequence[float]) -> list[Any]:
    x, y, width, height, degrees = box
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(-width / 2, -height / 2), (width / 2, -height / 2), (width / 2, height / 2), (-width / 2, height / 2)]
    return [(x + cos * dx + sin * dy, y - sin * dx + cos * dy) for dx, dy in corners]


def _area(shape: Sequence[Any]) -> float:
    return math.fsum(a[0] * b[1] - b[0] * a[1] for a, b in zip(shape, [*shape[1:], *shape[:1]], strict=True)) / 2


def scene(seed: int, *, rotated: bool, names: bool = False) -> tuple[list[Any], list[Any], list[Any]]:
    """Objects, some of them crowds or difficult, detections near them or nowhere, and the ids of images."""
    rng = np.random.default_rng(seed)
    images = [f"p{number}" if names else number for number in range(1, 9)]
    objects: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image in images:
        mine = []
        for _ in range(rng.integers(0, 6)):
            width, height = rng.uniform(4, 40, 2)
            box = [*rng.uniform(10, 60, 2), width, height, rng.uniform(-180, 180) if rotated else 0.0]
            aside = rng.random()
            mine.append(
                {
                    "image": image,
                    "label": int(rng.integers(0, 3)),
                    "box": box,
                    "area": width * height * rng.uniform(0.6, 1),
                    "crowd": bool(aside < 0.15),
                    "ignored": bool(aside > 0.85),
                }
            )
        for _ in range(rng.integers(0, 25)):
            if mine and rng.random() < 0.8:
                near = mine[rng.integers(len(mine))]
                box = np.array(near["box"]) + rng.normal(0, 1.5, 5) * (1, 1, 1, 1, 4 * rotated)
            else:
                near, box = {"label": int(rng.integers(0, 3))}, np.array([*rng.uniform(10, 50, 4), 0])
            box = box.astype(np.float32).astype(np.float64)
            box[2:4] = np.maximum(box[2:4], 2)
            score = float(np.float32(rng.integers(1, 12) / 13))  # some are equal
            area = box[2] * box[3]
            detections.append(
                {"image": image, "label": near["label"], "box": box.tolist(), "score": score, "area": area}
            )
        objects += mine
    return objects, detections, images


@pytest.mark.parametrize("seed", range(6))
def test_rotated_boxes_are_compared_by_the_rules(seed: int) -> None:
    objects, detections, images = scene(seed, rotated=True)
    found = evaluated(truth_of(objects, images), detections, max_dets=(2, 30), areas={"little": (0, 400)})["bbox"]
    for name, options in {
        "": {"limit": 30},
        "little": {"limit": 30, "high": 400.0},
        "50": {"limit": 30, "thresholds": [0.5]},
        "2": {"limit": 2},
    }.items():
        precision, recall = average_precision(detections, objects, rotated_overlap, **options)
        if name != "2":
            assert found[f"AP{name}"] == (None if precision is None else pytest.approx(precision, abs=1e-9))
        if name != "50":
            assert found[f"AR{name or 30}"] == (None if recall is None else pytest.approx(recall, abs=1e-9))


def test_rotated_by_nothing_are_upright() -> None:
    objects, detections, images = scene(7, rotated=False)
    turned = evaluated(truth_of(objects, images), detections)

    def upright(entry: dict[str, Any], *, corner: bool) -> dict[str, Any]:
        x, y, width, height, _ = entry["box"]
        low = (x - width / 2, y - height / 2)
        return {**entry, "box": (*low, x + width / 2, y + height / 2) if corner else (*low, width, height)}

    plain = evaluated(
        truth_of([upright(entry, corner=False) for entry in objects], images),
        [upright(entry, corner=True) for entry in detections],
    )
    assert turned == {"bbox": pytest.approx(plain["bbox"], abs=1e-9)}
    mixed = evaluated(truth_of(objects, images), [upright(entry, corner=True) for entry in detections])
    assert mixed == {"bbox": pytest.approx(plain["bbox"], abs=1e-9)}


def test_images_may_have_names() -> None:
    objects, detections, images = scene(3, rotated=True, names=True)
    numbers = scene(3, rotated=True)
    assert evaluated(truth_of(objects, images), detections) == evaluated(truth_of(numbers[0], numbers[2]), numbers[1])


def plain_boundary(mask: Any) -> Any:
    """A pixel at a time."""
    height, width = mask.shape
    distance = max(1, round(0.02 * math.sqrt(height**2 + width**2)))
    out = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        low_y, low_x = y - distance, x - distance
        window = mask[max(low_y, 0) : y + distance + 1, max(low_x, 0) : x + distance + 1]
        out[y, x] = window.size < (2 * distance + 1) ** 2 or not window.all()
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.tuples(st.integers(1, 40), st.integers(1, 130)), st.floats(0.5, 1))
def test_boundaries_are_pixels_near_what_is_outside(seed: int, size: tuple[int, int], share: float) -> None:
    rng = np.random.default_rng(seed)
    masks = np.kron(rng.random((3, 6, 6)) < share, np.ones((1, 30, 30), bool))[:, : size[0], : size[1]]
    masks[0] = True
    masks[1] &= rng.random(masks.shape[1:]) < 0.99
    before = masks.copy()
    np.testing.assert_array_equal(boundaries_of(masks), [plain_boundary(mask) for mask in masks])
    np.testing.assert_array_equal(masks, before)
    assert boundaries_of(masks[:0]).shape == (0, *masks.shape[1:])


def test_boundary_is_the_smaller_of_two_overlaps() -> None:
    from hotcoco import mask as rle

    rng = np.random.default_rng(0)
    objects, detections, images = scene(4, rotated=False)
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    for entry in (*objects, *detections):
        x, y, width, height, _ = entry["box"]
        blob = (abs(xs - x) / (width / 2)) ** 2.5 + (abs(ys - y) / (height / 2)) ** 2.5 < rng.uniform(0.8, 1.2)
        entry["mask"], entry["edge"], entry["area"] = blob, plain_boundary(blob), float(blob.sum())
        low = (x - width / 2, y - height / 2)
        if "score" in entry:
            entry["box"] = [*low, x + width / 2, y + height / 2]
        else:
            entry["box"], code = [*low, width, height], rle.encode(blob)
            entry["code"] = {**code, "counts": code["counts"].decode()}

    def overlap(detection: Any, entry: Any) -> float:
        def iou(a: Any, b: Any, whole: Any) -> float:
            return float((a & b).sum() / max(whole.sum(), 1))

        a, b = detection["mask"], entry["mask"]
        if entry["crowd"]:
            return iou(a, b, a)
        edges = detection["edge"], entry["edge"]
        return min(iou(a, b, a | b), iou(*edges, edges[0] | edges[1]))

    sections = evaluated(truth_of(objects, images), detections, boundary=True)
    assert list(sections) == ["bbox", "segm", "boundary"]
    for name, options in {"": {}, "50": {"thresholds": [0.5]}, "s": {"high": 1024.0}, "m": {"low": 1024.0}}.items():
        precision, _ = average_precision(detections, objects, overlap, **options)
        assert sections["boundary"][f"AP{name}"] == pytest.approx(precision, abs=1e-9)
    assert 0.02 < sections["boundary"]["AP"] < sections["segm"]["AP"]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 5), st.integers(0, 5))
def test_several_images_match_at_once(seed: int, detections: int, objects: int) -> None:
    rng = np.random.default_rng(seed)
    overlaps = rng.integers(-1, 6, (3, detections, objects)) / 5
    ignored, crowd = rng.random((2, 3, objects)) < 0.3
    together = match(overlaps, ignored, crowd)
    for index in range(3):
        np.testing.assert_array_equal(match(overlaps[index], ignored[index], crowd[index]), together[index])
