"""Panoptic quality against the published rules in float64, and against hotcoco, a second library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hotcoco.panoptic import pq_compute
from numpy.typing import NDArray
from PIL import Image

from det_datasets.panoptic.dataset import CocoPanopticDataset
from det_datasets.panoptic.evaluator import PanopticEvaluator
from det_datasets.pixels import picture_of_ids
from detkit.structures.prediction import Prediction

CATEGORIES = [
    {"id": 7, "name": "road", "isthing": 0},
    {"id": 11, "name": "building", "isthing": 0},
    {"id": 23, "name": "sky", "isthing": 0},
    {"id": 24, "name": "person", "isthing": 1},
    {"id": 26, "name": "car", "isthing": 1},
    {"id": 33, "name": "bicycle", "isthing": 1},
]
SIZE = (40, 50)
Segments = tuple[NDArray[np.int32], list[dict[str, Any]]]


def random_segments(rng: np.random.Generator, crowds: bool) -> Segments:
    """Rectangles over each other, some of the image left free; at most one crowd of a class, as in COCO."""
    ids = np.zeros(SIZE, np.int32)
    found: dict[int, dict[str, Any]] = {}
    for id in rng.choice(np.arange(1, 1 << 24), int(rng.integers(1, 12)), replace=False).tolist():
        top, left = rng.integers(0, 30), rng.integers(0, 40)
        ids[top : top + rng.integers(4, 25), left : left + rng.integers(4, 30)] = id
        category = CATEGORIES[rng.integers(0, 5)]  # the last one never occurs
        taken = {segment["category_id"] for segment in found.values() if segment["iscrowd"]}
        crowd = crowds and bool(category["isthing"]) and category["id"] not in taken and bool(rng.random() < 0.3)
        found[id] = {"id": id, "category_id": category["id"], "iscrowd": int(crowd)}
    return ids, described(ids, found)


def disturbed(rng: np.random.Generator, truth: Segments) -> Segments:
    """Segments moved by a pixel or two, some of another class, some gone, none of them a crowd."""
    ids, segments = np.roll(truth[0], rng.integers(-3, 4, 2), axis=(0, 1)), truth[1]
    found: dict[int, dict[str, Any]] = {}
    out = np.zeros_like(ids)
    for number, segment in enumerate(segments, start=1):
        if rng.random() < 0.85:
            out[ids == segment["id"]] = number
            category = segment["category_id"] if rng.random() < 0.8 else 24
            found[number] = {"id": number, "category_id": category, "iscrowd": 0}
    extra = len(segments) + 1
    out[: rng.integers(1, 12), : rng.integers(1, 20)] = extra
    found[extra] = {"id": extra, "category_id": 26, "iscrowd": 0}
    return out, described(out, found)


def described(ids: NDArray[np.int32], found: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    segments = []
    for id, segment in found.items():
        rows, columns = np.nonzero(ids == id)
        if len(rows):
            low, high = (columns.min(), rows.min()), (columns.max(), rows.max())
            box = [int(low[0]), int(low[1]), int(high[0] - low[0] + 1), int(high[1] - low[1] + 1)]
            segments.append({**segment, "area": len(rows), "bbox": box})
    return segments


def write(folder: Path, images: list[Segments]) -> Path:
    """A panoptic JSON file and its pictures."""
    pictures = folder / "panoptic"
    pictures.mkdir(parents=True)
    (folder / "images").mkdir()
    entries, annotations = [], []
    for number, (ids, segments) in enumerate(images, start=1):
        Image.new("RGB", SIZE[::-1]).save(folder / "images" / f"{number}.jpg")
        picture_of_ids(ids).save(pictures / f"{number}.png")
        entries.append({"id": number, "file_name": f"{number}.jpg", "height": SIZE[0], "width": SIZE[1]})
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    file = folder / "panoptic.json"
    file.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": CATEGORIES}))
    return file


def opened(folder: Path, images: list[Segments], **options: Any) -> CocoPanopticDataset:
    file = write(folder, images)
    return CocoPanopticDataset(folder / "images", file, folder / "panoptic", **options)


def predicted(data: CocoPanopticDataset, answer: Segments) -> Prediction:
    segments = []
    for segment in answer[1]:
        id = segment["category_id"]
        thing = id in data.categories.ids
        assert data.semantic_categories is not None
        label = (data.categories if thing else data.semantic_categories).label_of_id(id)
        known = {"id": segment["id"], "isthing": thing, "label": label, "area": segment["area"]}
        segments.append(known | ({"score": 0.5} if thing else {}))
    return Prediction(SIZE, panoptic=torch.from_numpy(answer[0]), segments=segments)


def evaluated(data: CocoPanopticDataset, answers: list[Segments]) -> PanopticEvaluator:
    evaluator = PanopticEvaluator()
    evaluator.start(data)
    for number, answer in enumerate(answers, start=1):
        evaluator.add(predicted(data, answer), {"image_id": number, "path": f"{number}.jpg"})
    return evaluator


def reference(truths: list[Segments], answers: list[Segments]) -> dict[int, tuple[float, float, float] | None]:
    """PQ, SQ, RQ of each category by the rules of the paper, section 4, one pair of masks after the other."""
    sums = {category["id"]: [0.0, 0, 0, 0] for category in CATEGORIES}
    for (ids, segments), (answer_ids, answer_segments) in zip(truths, answers, strict=True):
        void, matched, hit = ids == 0, set(), set()
        for truth in segments:
            for answer in answer_segments:
                mask, other = ids == truth["id"], (answer_ids == answer["id"]) & ~void
                overlap = np.float64((mask & other).sum()) / (mask | other).sum()
                if truth["category_id"] == answer["category_id"] and not truth["iscrowd"] and overlap > 0.5:
                    sums[truth["category_id"]][0] += overlap
                    sums[truth["category_id"]][1] += 1
                    matched.add(truth["id"])
                    hit.add(answer["id"])
        for truth in segments:
            if truth["id"] not in matched and not truth["iscrowd"]:
                sums[truth["category_id"]][3] += 1
        for answer in answer_segments:
            ignored = void.copy()
            for truth in segments:
                if truth["iscrowd"] and truth["category_id"] == answer["category_id"]:
                    ignored |= ids == truth["id"]
            mask = answer_ids == answer["id"]
            if answer["id"] not in hit and (mask & ignored).sum() / mask.sum() <= 0.5:
                sums[answer["category_id"]][2] += 1
    return {
        id: (iou / (found + (wrong + missed) / 2), iou / max(found, 1), found / (found + (wrong + missed) / 2))
        if found + wrong + missed
        else None
        for id, (iou, found, wrong, missed) in sums.items()
    }


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_published_rules_and_hotcoco(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truths = [random_segments(rng, crowds=True) for _ in range(8)]
    answers = [disturbed(rng, truth) for truth in truths]
    data = opened(tmp_path / "truth", truths)
    evaluator = evaluated(data, answers)
    values = evaluator.compute()["panoptic"]

    by_category = reference(truths, answers)
    groups = {"": CATEGORIES, "_th": CATEGORIES[3:], "_st": CATEGORIES[:3]}
    for ending, group in groups.items():
        rows = [by_category[category["id"]] for category in group]
        for position, metric in enumerate(("PQ", "SQ", "RQ")):
            expected = np.mean([row[position] for row in rows if row is not None])
            assert values[metric + ending] == pytest.approx(expected, abs=1e-12)

    file = write(tmp_path / "answer", answers)
    second = pq_compute(data.annotation_file, file, tmp_path / "truth" / "panoptic", tmp_path / "answer" / "panoptic")
    for ending, name in (("", "All"), ("_th", "Things"), ("_st", "Stuff")):
        for metric in ("PQ", "SQ", "RQ"):
            assert values[metric + ending] == pytest.approx(second[name][metric.lower()], abs=1e-9)


def test_saved_results_are_read_by_coco_tools(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truths = [random_segments(rng, crowds=True) for _ in range(4)]
    answers = [disturbed(rng, truth) for truth in truths]
    data = opened(tmp_path / "truth", truths)
    evaluator = evaluated(data, answers)
    values = evaluator.compute()["panoptic"]
    evaluator.save(tmp_path / "out")
    second = pq_compute(
        data.annotation_file,
        tmp_path / "out" / "panoptic_results.json",
        tmp_path / "truth" / "panoptic",
        tmp_path / "out" / "panoptic_results",
    )
    assert second["All"]["pq"] == pytest.approx(values["PQ"], abs=1e-9)
    saved = json.loads((tmp_path / "out" / "panoptic_results.json").read_text())
    assert [entry["file_name"] for entry in saved["annotations"]] == [f"{number:012}.png" for number in range(1, 5)]
    assert {info["category_id"] for entry in saved["annotations"] for info in entry["segments_info"]} <= {
        category["id"] for category in CATEGORIES
    }
    per_class = json.loads((tmp_path / "out" / "panoptic_per_class.json").read_text())
    assert per_class["bicycle"] == {"PQ": None, "SQ": None, "RQ": None}


def test_classes_that_do_not_occur_are_undefined(tmp_path: Path) -> None:
    ids = np.full(SIZE, 5, np.int32)
    road = {5: {"id": 5, "category_id": 7, "iscrowd": 0}}
    images = [(ids, described(ids, road))]
    evaluator = evaluated(opened(tmp_path, images), images)
    values = evaluator.compute()["panoptic"]
    assert values["PQ"] == values["PQ_st"] == 1
    assert values["PQ_th"] is values["SQ_th"] is values["RQ_th"] is None
    (_, _, summary), (_, _, classes), (_, _, reasons) = evaluator.tables()
    assert summary[1] == ("things", "n/a", "n/a", "n/a")
    assert {row[0]: row[-1] for row in classes}["sky"] == "n/a"
    assert dict(reasons)["things"] == dict(reasons)["sky"] == "neither annotated nor predicted"


def test_a_thing_labelled_as_a_pixel_counts_as_that_thing(tmp_path: Path) -> None:
    """Models of pixels alone may name a class of things by its label among the pixels."""
    ids = np.full(SIZE, 5, np.int32)
    images = [(ids, described(ids, {5: {"id": 5, "category_id": 24, "iscrowd": 0}}))]
    data = opened(tmp_path, images)
    assert data.semantic_categories is not None
    evaluator = PanopticEvaluator()
    evaluator.start(data)
    label = data.semantic_categories.names.index("person")
    segments = [{"id": 1, "isthing": False, "label": label, "area": ids.size}]
    answer = Prediction(SIZE, panoptic=torch.ones(SIZE, dtype=torch.int32), segments=segments)
    evaluator.add(answer, {"image_id": 1, "path": "1.jpg"})
    assert evaluator.compute()["panoptic"]["PQ_th"] == 1


def test_data_and_models_without_segments_are_told(tmp_path: Path) -> None:
    ids = np.full(SIZE, 5, np.int32)
    images = [(ids, described(ids, {5: {"id": 5, "category_id": 7, "iscrowd": 0}}))]
    data = opened(tmp_path, images)
    evaluator = PanopticEvaluator()
    evaluator.start(data)
    with pytest.raises(ValueError, match="the model answers no panoptic segments"):
        evaluator.add(Prediction(SIZE), {"image_id": 1, "path": "1.jpg"})
    data.has_panoptic = False
    with pytest.raises(ValueError, match="the dataset has no panoptic segments"):
        evaluator.start(data)
