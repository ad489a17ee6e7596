"""LVIS's metrics against hotcoco, and against the published rules (Gupta et al., 2019; Dave et al., 2021; Cheng et al.,
2021) one detection, object and threshold at a time, in plain floats."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest
import torch
from hotcoco import mask as rle
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from det_datasets.lvis.evaluator import LvisEvaluator
from detkit.interfaces import Dataset
from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction

SIZE = (120, 150)
IDS = (2, 3, 7, 11, 20)  # with gaps, and not in the order of the labels below
FREQUENCIES = {3: "r", 2: "c", 7: "f", 20: "r"}  # the class 11 has none
THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
AREAS = {"": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}


class Truth(Dataset):
    """Nothing but a ground truth."""

    def __init__(self, truth: Mapping[str, Any]) -> None:
        self.truth = truth
        self.categories = Categories(tuple(f"class {id}" for id in IDS), ids=IDS)

    def __len__(self) -> int:
        return len(self.truth["images"])

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError

    def size(self, index: int) -> tuple[int, int]:
        return SIZE

    def ground_truth(self) -> Any:
        return self.truth


def scene(seed: int) -> tuple[Truth, list[dict[str, Any]]]:
    """Objects and detections near them or nowhere, in images of which it is known that they lack some classes, and that
    objects of some are missing. Masks are boxes without a corner."""
    rng = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image_id in range(1, 8):
        mine = [
            {"category_id": int(rng.choice(IDS[:4])), "box": _box(rng), "cut": _cut(rng), "image_id": image_id}
            for _ in range(rng.integers(0, 5))
        ]
        for entry in mine:
            if rng.random() < 0.1:
                entry["ignore"] = 1
            entry["id"] = len(annotations) + 1
            annotations.append(entry)
        here = {entry["category_id"] for entry in mine}
        images.append(
            {
                "id": image_id,
                "height": SIZE[0],
                "width": SIZE[1],
                "neg_category_ids": [id for id in IDS if id not in here and rng.random() < 0.4],
                "not_exhaustive_category_ids": [id for id in IDS if rng.random() < 0.25],
            }
        )
        for _ in range(rng.integers(0, 14)):
            near = mine[rng.integers(len(mine))] if mine and rng.random() < 0.7 else None
            box = _box(rng) if near is None else _moved(rng, near["box"])
            detections.append(
                {
                    "image_id": image_id,
                    "category_id": int(rng.choice(IDS)) if near is None or rng.random() < 0.2 else near["category_id"],
                    "box": box,
                    "cut": _cut(rng) if near is None else near["cut"],
                    "score": float(np.float32(rng.integers(1, 9) / 10)),  # some are equal
                }
            )
    for entry in annotations:
        entry["mask"] = _mask(entry)
        x0, y0, x1, y1 = entry["box"]
        code = rle.encode(np.asfortranarray(entry["mask"].astype(np.uint8)))
        entry |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": code, "area": float(entry["mask"].sum())}
        entry["iscrowd"] = 0
    for entry in detections:
        entry["mask"] = _mask(entry)
    categories = [
        {"id": id, "name": f"class {id}", **({"frequency": FREQUENCIES[id]} if id in FREQUENCIES else {})} for id in IDS
    ]
    kept = [{key: entry[key] for key in entry if key not in ("box", "cut", "mask")} for entry in annotations]
    dataset = Truth({"images": images, "annotations": kept, "categories": categories})
    dataset.objects = annotations  # type: ignore[attr-defined]
    return dataset, detections


def _box(rng: np.random.Generator) -> list[float]:
    width, height = (int(side) for side in np.exp(rng.uniform(np.log(6), np.log(115), 2)))
    x, y = int(rng.integers(0, SIZE[1] - width + 1)), int(rng.integers(0, SIZE[0] - height + 1))
    return [float(value) for value in (x, y, x + width, y + height)]


def _moved(rng: np.random.Generator, box: Sequence[float]) -> list[float]:
    x0, y0, x1, y1 = np.round(np.array(box) + rng.normal(0, 2, 4))
    x0, y0 = min(max(x0, 0), SIZE[1] - 2), min(max(y0, 0), SIZE[0] - 2)
    return [float(x0), float(y0), float(max(x1, x0 + 1)), float(max(y1, y0 + 1))]


def _cut(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 0.3, 0.5]))


def _mask(entry: Mapping[str, Any]) -> NDArray[np.bool_]:
    x0, y0, x1, y1 = (int(value) for value in entry["box"])
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    mask[y0 : y0 + int((y1 - y0) * entry["cut"]), x0 : x0 + int((x1 - x0) * entry["cut"])] = False
    return mask


def evaluated(dataset: Truth, detections: Sequence[dict[str, Any]], **options: Any) -> LvisEvaluator:
    """An evaluator that has computed the metrics of detections."""
    evaluator = LvisEvaluator(**options)
    evaluator.start(dataset)
    for image in reversed(dataset.truth["images"]):
        mine = [entry for entry in detections if entry["image_id"] == image["id"]]
        prediction = Prediction(
            SIZE,
            boxes=torch.tensor([entry["box"] for entry in mine]).reshape(-1, 4),
            scores=torch.tensor([entry["score"] for entry in mine]),
            labels=torch.tensor([IDS.index(entry["category_id"]) for entry in mine], dtype=torch.int64),
            masks=torch.from_numpy(np.array([entry["mask"] for entry in mine], bool).reshape(-1, *SIZE)),
        )
        evaluator.add(prediction, {"image_id": image["id"]})
    evaluator.compute()
    return evaluator


def box_iou(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    ax0, ay0, ax1, ay1 = one["box"]
    bx0, by0, bx1, by1 = other["box"]
    shared = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
    return shared / ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared)


def mask_iou(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    return _iou(one["mask"], other["mask"])


def boundary_iou(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    return min(mask_iou(one, other), _iou(_boundary(one), _boundary(other)))


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def _boundary(entry: Any) -> NDArray[np.bool_]:
    if "boundary" not in entry:
        distance = max(1, round(0.02 * float(np.hypot(*SIZE))))
        padded = np.pad(entry["mask"], distance)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * distance + 1,) * 2)
        entry["boundary"] = entry["mask"] & ~windows.all(axis=(2, 3))
    found: NDArray[np.bool_] = entry["boundary"]
    return found


def reference(
    dataset: Any,
    detections: Sequence[Mapping[str, Any]],
    overlap: Callable[[Any, Any], float],
    area: Callable[[Any], float],
    *,
    per_image: int | None = None,
    per_class: int | None = None,
) -> dict[str, float | None]:
    """The metrics by the rules. Detections are in the order of their images."""
    known: dict[tuple[int, int], float] = {}

    def overlap_of(one: Any, other: Any) -> float:
        key = id(one), other["id"]
        if key not in known:
            known[key] = overlap(one, other)
        return known[key]

    if per_image is not None:
        detections = _best(detections, "image_id", per_image)
    if per_class is not None:
        detections = _best(detections, "category_id", per_class)
    curves = {
        (category, name, threshold): _curve(dataset, detections, category, overlap_of, area, limits, threshold)
        for category in IDS
        for name, limits in AREAS.items()
        for threshold in THRESHOLDS
    }

    def mean(part: int, name: str = "", thresholds: Sequence[float] = THRESHOLDS, letter: str = "") -> float | None:
        values = [
            curves[category, name, threshold]
            for threshold in thresholds
            for category in IDS
            if not letter or FREQUENCIES.get(category) == letter
        ]
        chosen = [value[part] for value in values if value is not None]
        return float(sum(chosen) / len(chosen)) if chosen else None

    return {
        "AP": mean(0),
        "AP50": mean(0, thresholds=THRESHOLDS[:1]),
        "AP75": mean(0, thresholds=THRESHOLDS[5:6]),
        **{f"AP{name}": mean(0, name) for name in "sml"},
        **{f"AP{letter}": mean(0, letter=letter) for letter in "rcf"},
        f"AR{per_image or per_class}": mean(1),
        **{f"AR{name}": mean(1, name) for name in "sml"},
    }


def _best(detections: Sequence[Mapping[str, Any]], key: str, limit: int) -> list[Mapping[str, Any]]:
    kept = []
    for value in {entry[key] for entry in detections}:
        mine = [number for number, entry in enumerate(detections) if entry[key] == value]
        kept += sorted(mine, key=lambda number: -detections[number]["score"])[:limit]
    return [detections[number] for number in sorted(kept)]


def _curve(
    dataset: Any,
    detections: Sequence[Mapping[str, Any]],
    category: int,
    overlap: Callable[[Any, Any], float],
    area: Callable[[Any], float],
    limits: tuple[float, float],
    threshold: float,
) -> tuple[float, float] | None:
    """Average precision and recall of one class; None if it has no object."""
    outcomes: list[tuple[float, bool]] = []
    wanted = 0
    for image in dataset.truth["images"]:
        objects = [
            {**entry, "aside": bool(entry.get("ignore")) or not limits[0] <= entry["area"] <= limits[1], "taken": False}
            for entry in dataset.objects
            if (entry["image_id"], entry["category_id"]) == (image["id"], category)
        ]
        wanted += sum(not entry["aside"] for entry in objects)
        if not objects and category not in image["neg_category_ids"]:
            continue  # nobody looked for this class
        mine = [entry for entry in detections if (entry["image_id"], entry["category_id"]) == (image["id"], category)]
        for detection in sorted(mine, key=lambda entry: -entry["score"]):
            free = [entry for entry in objects if not entry["taken"] and overlap(detection, entry) >= threshold]
            free = [entry for entry in free if not entry["aside"]] or free
            if free:
                most = max(overlap(detection, entry) for entry in free)
                match = [entry for entry in free if overlap(detection, entry) == most][-1]
                match["taken"] = True
                if not match["aside"]:
                    outcomes.append((detection["score"], True))
            elif limits[0] <= area(detection) <= limits[1] and category not in image["not_exhaustive_category_ids"]:
                outcomes.append((detection["score"], False))
    if not wanted:
        return None
    outcomes.sort(key=lambda outcome: -outcome[0])
    right, points = 0, []
    for number, (_, hit) in enumerate(outcomes, start=1):
        right += hit
        points.append((right / wanted, right / number))
    at = [max((precision for recall, precision in points if recall >= step / 100), default=0.0) for step in range(101)]
    return sum(at) / 101, right / wanted


def box_area(entry: Mapping[str, Any]) -> float:
    x0, y0, x1, y1 = entry["box"]
    return float((x1 - x0) * (y1 - y0))


def mask_area(entry: Mapping[str, Any]) -> float:
    return float(entry["mask"].sum())


MEASURES = {
    "bbox": (box_iou, box_area),
    "segm": (mask_iou, mask_area),
    "boundary": (boundary_iou, mask_area),
}


def assert_same(found: Mapping[str, float | None], expected: Mapping[str, float | None]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value, abs=1e-12)), name


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_metrics_follow_the_rules(seed: int) -> None:
    dataset, detections = scene(seed)
    found = evaluated(dataset, detections, max_dets=6, fixed=9, boundary=True).compute()
    assert list(found) == [*MEASURES, *(f"{section}_fixed" for section in MEASURES)]
    for section, (overlap, area) in MEASURES.items():
        assert_same(found[section], reference(dataset, detections, overlap, area, per_image=6))
        assert_same(found[f"{section}_fixed"], reference(dataset, detections, overlap, area, per_class=9))


@pytest.mark.parametrize("section", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_hotcoco(section: str, seed: int) -> None:
    """It is given what is in the result file, and applies the limit and the rules itself."""
    dataset, detections = scene(seed)
    results = []
    for entry in detections:
        x0, y0, x1, y1 = entry["box"]
        result = {"image_id": entry["image_id"], "category_id": entry["category_id"], "score": entry["score"]}
        if section == "bbox":
            result["bbox"] = [x0, y0, x1 - x0, y1 - y0]
        else:
            result["segmentation"] = rle.encode(np.asfortranarray(entry["mask"].astype(np.uint8)))
        results.append(result)
    annotations = [
        {**entry, "area": 1e12 if entry.get("ignore") else entry["area"]} for entry in dataset.truth["annotations"]
    ]
    truth = hotcoco.LVIS({**dataset.truth, "annotations": annotations})
    judge = hotcoco.LVISEval(truth, hotcoco.LVISResults(truth, results, max_dets=6), section)
    judge.run()
    expected = {name.partition("@")[0]: value for name, value in judge.get_results().items()}
    found = evaluated(dataset, detections, max_dets=6).compute()[section]
    found["AR"] = found.pop("AR6")
    assert found == {name: None if expected[name] == -1 else expected[name] for name in found}
    assert found.keys() == expected.keys()


def test_undefined_metrics_have_reasons() -> None:
    dataset, detections = scene(3)
    dataset.truth["annotations"][:] = [
        entry for entry in dataset.truth["annotations"] if entry["category_id"] == 7 and entry["area"] < 9000
    ]
    evaluator = evaluated(dataset, detections)
    values = evaluator.compute()["bbox"]
    assert values["APr"] is None
    assert values["APl"] is None
    assert values["APf"] is not None
    reasons = dict({title: rows for title, _, rows in evaluator.tables()}["Undefined metrics"])
    assert reasons["APr"] == "the dataset has no object of a rare class"
    assert reasons["APl"] == "the dataset has no object that is large"
    assert reasons["by class"] == "the dataset has no object of class 2, class 3, class 11, class 20"


def test_objects_that_are_crowds_or_have_no_mask_are_ignored() -> None:
    dataset, detections = scene(5)
    entry = dataset.truth["annotations"][0]
    entry["iscrowd"] = 1
    dataset.truth["annotations"][1].pop("segmentation")
    found = evaluated(dataset, detections, boundary=True).compute()
    for entry in dataset.objects[:2]:  # type: ignore[attr-defined]
        entry["ignore"] = 1
    assert found["bbox"]["AP"] is not None
    x0, y0, x1, y1 = dataset.objects[1]["box"]  # type: ignore[attr-defined]
    dataset.objects[1]["mask"][int(y0) : int(y1), int(x0) : int(x1)] = True  # type: ignore[attr-defined]
    for section in ("segm", "boundary"):
        overlap, area = MEASURES[section]
        assert_same(found[section], reference(dataset, detections, overlap, area, per_image=300))


def test_results_have_the_ids_of_the_dataset(tmp_path: Path) -> None:
    dataset, detections = scene(1)
    evaluated(dataset, detections).save(tmp_path)
    saved = json.loads((tmp_path / "lvis_instances_results.json").read_text())
    assert len(saved) == len(detections)
    assert {entry["category_id"] for entry in saved} <= set(IDS)
    assert saved[0]["image_id"] == 1
    assert saved[0].keys() == {"image_id", "category_id", "bbox", "score", "segmentation"}
    per_class = json.loads((tmp_path / "lvis_per_class.json").read_text())
    assert set(per_class["segm"]["AP"]) == {f"class {id}" for id in IDS}


def test_rotated_boxes_are_an_error() -> None:
    evaluator = LvisEvaluator()
    evaluator.start(scene(0)[0])
    with pytest.raises(ValueError, match="upright"):
        evaluator.add(
            Prediction(SIZE, boxes=torch.ones(1, 5), scores=torch.ones(1), labels=torch.zeros(1, dtype=torch.int64)),
            {"image_id": 1},
        )
