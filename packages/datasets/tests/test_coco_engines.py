"""hotcoco's numbers are those of pycocotools, to the last digit; memory does not grow."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hotcoco import mask as rle
from hypothesis import given, settings
from hypothesis import strategies as st

from det_datasets.coco.evaluator import CocoEvaluator
from det_datasets.coco.proposal_evaluator import ProposalEvaluator
from detkit.interfaces import Dataset
from detkit.structures.categories import Categories
from detkit.structures.keypoints import Keypoints
from detkit.structures.prediction import Prediction

SIZE = (60, 80)
IMAGES, CLASSES, KEYPOINTS = 4, 3, 4
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, numpy 2.4


class Truth(Dataset):
    """Nothing but a ground truth of boxes, masks and keypoints."""

    def __init__(self, annotations: list[dict[str, Any]], names: bool = False) -> None:
        self.images = [f"image {number}" if names else 3 * number for number in range(1, IMAGES + 1)]
        ids = [7, 2, 30]  # in no order
        self.categories = Categories(
            tuple(f"class {id}" for id in ids),
            tuple(ids),
            keypoints=Keypoints(tuple("abcd"), swaps=(), skeleton=(), sigmas=(0.05, 0.1, 0.07, 0.2)),
        )
        self.truth = {
            "images": [{"id": id, "height": SIZE[0], "width": SIZE[1]} for id in self.images],
            "annotations": [{**entry, "image_id": self.images[entry["image_id"]]} for entry in annotations],
            "categories": [{"id": id, "name": f"class {id}"} for id in ids],
        }

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError

    def size(self, index: int) -> tuple[int, int]:
        return SIZE

    def ground_truth(self) -> Any:
        return self.truth


def scene(seed: int) -> tuple[list[dict[str, Any]], list[Prediction]]:
    """Annotations (some of them crowds, some as large as a limit of sizes) and predictions with many equal scores."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    predictions = []
    for image in range(IMAGES):
        count, found = int(rng.integers(0, 7)), int(rng.integers(0, 30))
        boxes, labels = _boxes(rng, count), rng.integers(0, CLASSES, count)
        boxes[rng.random(count) < 0.1] = (4, 5, 36, 37)  # 32 x 32
        points = rng.uniform(0, 60, (max(count, 1), KEYPOINTS, 3))
        points[..., 2] = rng.integers(0, 3, points.shape[:2])
        for box, label, keypoints in zip(boxes, labels, points, strict=False):
            width, height = box[2:] - box[:2]
            corners = [box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": (7, 2, 30)[label],
                    "bbox": [*box[:2].tolist(), float(width), float(height)],
                    "area": float(width * height),
                    "iscrowd": int(rng.random() < 0.15),
                    "segmentation": [[float(corner) for corner in corners]],
                    "keypoints": keypoints.round(1).ravel().tolist(),
                    "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                }
            )
        near = rng.integers(0, max(count, 1), found)
        moved = boxes[near] + rng.integers(-3, 4, (found, 4)) if count else _boxes(rng, found)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        codes = rle.fr_py_objects([[*b[:2], b[2], b[1], *b[2:], b[0], b[3]] for b in moved.tolist()], *SIZE)
        near_points = points[near] + rng.normal(0, 2, (found, KEYPOINTS, 3))
        right = rng.random(found) < 0.7
        answers = np.where(right & bool(count), labels[near] if count else 0, rng.integers(0, CLASSES, found))
        predictions.append(
            Prediction(
                SIZE,
                boxes=torch.from_numpy(moved).float(),
                scores=torch.from_numpy(rng.integers(1, 8, found) / 8).float(),
                labels=torch.from_numpy(answers),
                masks=codes if found else [],
                keypoints=torch.from_numpy(near_points),
            )
        )
    return annotations, predictions


def _boxes(rng: np.random.Generator, count: int) -> Any:
    low = rng.integers(0, 40, (count, 2)).astype(np.float64)
    return np.concatenate((low, low + rng.integers(1, 40, (count, 2))), axis=1)


def evaluator_of(dataset: Truth, predictions: list[Prediction], **options: Any) -> CocoEvaluator:
    evaluator = CocoEvaluator(**options)
    evaluator.start(dataset)
    for image_id, prediction in zip(dataset.images, predictions, strict=True):
        evaluator.add(prediction, {"image_id": image_id})
    return evaluator


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from([{}, {"max_dets": [2, 5]}, {"areas": {"huge": [1024, 1e10]}}]))
def test_engines_agree_to_the_last_digit(seed: int, options: dict[str, Any]) -> None:
    annotations, predictions = scene(seed)
    dataset = Truth(annotations)
    ours = evaluator_of(dataset, predictions, **options)
    theirs = evaluator_of(dataset, predictions, engine="pycocotools", **options)
    found = ours.compute()
    assert list(found) == ["bbox", "segm", "keypoints"]
    assert found == theirs.compute()
    assert ours.tables() == theirs.tables()


def test_only_the_sections_that_are_asked_for_are_computed() -> None:
    annotations, predictions = scene(1)
    found = evaluator_of(Truth(annotations), predictions, sections=["boundary", "segm"]).compute()
    assert list(found) == ["segm", "boundary"]
    assert found["segm"] == evaluator_of(Truth(annotations), predictions).compute()["segm"]


def test_images_with_names_keep_them(tmp_path: Path) -> None:
    annotations, predictions = scene(0)
    numbers, names = Truth(annotations), Truth(annotations, names=True)
    named = evaluator_of(names, predictions)
    assert named.compute() == evaluator_of(numbers, predictions).compute()
    named.save(tmp_path)
    results = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert {entry["image_id"] for entry in results} <= set(names.images)
    assert len(results) == sum(len(prediction) for prediction in predictions)


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("section", ["bbox", "segm", "boundary", "keypoints"])
def test_a_difficult_object_need_not_be_found_and_may_be(section: str, engine: str) -> None:
    points = [20.0, 20, 2] * KEYPOINTS
    common = {"image_id": 0, "category_id": 2, "iscrowd": 0, "area": 400.0, "num_keypoints": KEYPOINTS}
    annotations = [
        {
            **common,
            "id": number + 1,
            "bbox": [x, 10.0, 20.0, 20.0],
            "segmentation": [[x, 10.0, x + 20, 10, x + 20, 30, x, 30]],
            "keypoints": [value + x * (place % 3 == 0) for place, value in enumerate(points)],
        }
        for number, x in enumerate((5.0, 50.0))
    ]
    annotations[1]["ignore"] = 1
    masks = torch.zeros(3, *SIZE, dtype=torch.bool)
    masks[0, 10:30, 5:25] = masks[1:, 10:30, 50:70] = True
    keypoints = torch.tensor(points).reshape(1, KEYPOINTS, 3).repeat(3, 1, 1)
    keypoints[..., 0] += torch.tensor([5.0, 50, 50])[:, None]
    keypoints[..., :2] += 0.5
    whole = Prediction(
        SIZE,
        boxes=torch.tensor([[5.0, 10, 25, 30], [50, 10, 70, 30], [50, 10, 70, 30]]),
        scores=torch.tensor([0.5, 0.9, 0.8]),
        labels=torch.tensor([1, 1, 1]),
        masks=masks,
        keypoints=keypoints,
    )
    nothing = whole.select(torch.zeros(0, dtype=torch.int64))
    for kept, precision in (([0], 1.0), ([0, 1], 1.0), ([0, 1, 2], 0.5)):  # a second one on it is wrong
        predictions = [whole.select(torch.tensor(kept)), *[nothing] * (IMAGES - 1)]
        evaluator = evaluator_of(Truth(annotations), predictions, engine=engine, boundary=True)
        assert evaluator.compute()[section]["AP"] == pytest.approx(precision)
        assert evaluator.tables()[1][2][1][1] == "1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "other"}, "engine is 'other'; there are hotcoco, pycocotools"),
        ({"max_dets": [0, 3]}, "max_dets is .0, 3."),
        ({"areas": {"5": [0, 3]}}, "areas has 5"),
        ({"areas": {"a": [3, 0]}}, "areas has a"),
        ({"sections": ["bbox", "mask"]}, "sections has mask; there are bbox, segm, boundary, keypoints"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CocoEvaluator(**options)


def growth(evaluator: CocoEvaluator | ProposalEvaluator, images: int = 120) -> float:
    """Bytes of Python's memory for an image of 100 predictions, on average after the first 20."""
    truth = Truth([])
    truth.truth["images"] = [{"id": id, "height": 8, "width": 8} for id in range(images)]
    prediction = Prediction(
        (8, 8),
        boxes=torch.rand(100, 4),
        scores=torch.rand(100),
        labels=torch.zeros(100, dtype=torch.int64),
        masks=torch.rand(100, 8, 8).ge(0.5),
    )
    evaluator.start(truth)
    tracemalloc.start()
    for image_id in range(images):
        evaluator.add(prediction, {"image_id": image_id, "path": "x.jpg"})
        if image_id == 20:
            before = tracemalloc.get_traced_memory()[0]
    found = (tracemalloc.get_traced_memory()[0] - before) / (images - 21)
    tracemalloc.stop()
    return found


@pytest.mark.parametrize("kind", [CocoEvaluator, ProposalEvaluator])
def test_memory_does_not_grow_while_a_model_predicts(kind: type[CocoEvaluator | ProposalEvaluator]) -> None:
    assert growth(kind()) < 300  # boxes, scores and labels alone have 2,400
