from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from det_datasets.coco.dataset import CocoDataset
from det_datasets.coco.proposal_evaluator import ProposalEvaluator, _iou, pair_greedily
from detkit.data.loader import EVALUATION_PROPOSALS, eval_loader, train_loader
from detkit.data.proposals import read_proposals, write_proposals
from detkit.data.source import open_split
from detkit.data.transforms.flip import Flip
from detkit.structures.input_spec import InputSpec
from detkit.structures.prediction import Prediction

Write = Callable[..., CocoDataset]


def with_proposals(dataset: CocoDataset, boxes: dict[int, Any]) -> CocoDataset:
    file = dataset.folder.parent / "proposals.npz"
    arrays = [np.asarray(each, np.float32).reshape(-1, 4) for each in boxes.values()]
    scores = [np.linspace(1, 0, len(each), dtype=np.float32) for each in arrays]
    write_proposals(file, list(boxes), arrays, scores, [f"{id}.jpg" for id in boxes])
    return CocoDataset(images=dataset.folder, annotations=dataset.annotation_file, proposals=file)


def test_proposals_come_with_their_image(coco: Write) -> None:
    dataset = with_proposals(coco(images=2), {2: [], 1: [[1, 2, 30, 20], [0, 0, 40, 30]]})
    first, second = (sample.target for sample in dataset)
    assert first["proposals"].tolist() == [[1, 2, 30, 20], [0, 0, 40, 30]]
    assert first["proposals"].canvas_size == (30, 40)
    assert first["proposal_scores"].tolist() == [1, 0]
    assert second["proposals"].shape == (0, 4)


def test_images_without_proposals_are_an_error(coco: Write) -> None:
    with pytest.raises(ValueError, match=r"proposals\.npz has no proposals for 2 of 3 images, image 2 first"):
        with_proposals(coco(images=3), {1: [[1, 2, 30, 20]]})


def test_a_data_file_names_them(coco: Write, tmp_path: Path) -> None:
    with_proposals(coco([{"bbox": [1, 2, 3, 4]}]), {1: [[1, 2, 30, 20]]})
    split = "train: {images: images, annotations: annotations.json, proposals: proposals.npz, min_keypoints: 0}"
    (tmp_path / "data.yaml").write_text(split)
    assert len(open_split(tmp_path / "data.yaml")[0].target["proposals"]) == 1


def test_batches_have_them_in_the_pixels_of_their_images(coco: Write) -> None:
    dataset = with_proposals(coco([{"bbox": [1, 2, 3, 4]}], images=2), {1: [[1, 2, 30, 20]], 2: []})
    flipped = next(train_loader(dataset, [Flip(1.0)], batch_size=2, divisor=8, seed=0, workers=0))
    resized = next(iter(eval_loader(dataset, InputSpec(min_size=60, divisor=8), batch_size=2, workers=0)))
    for batch, expected in ((flipped, [10, 2, 39, 20]), (resized, [2, 4, 60, 40])):
        row = [info["image_id"] for info in batch.info].index(1)
        assert batch.proposals is not None
        assert batch.proposals.valid.sum(dim=1).tolist() == [1 - row, row]
        torch.testing.assert_close(batch.proposals.boxes[row, 0], torch.tensor(expected, dtype=torch.float32))


def test_evaluation_takes_the_best_thousand(coco: Write) -> None:
    many = [[0, 0, 1 + number / 100, 5] for number in range(1500)]
    dataset = with_proposals(coco(), {1: many})
    batch = next(iter(eval_loader(dataset, InputSpec(min_size=0), batch_size=1, workers=0)))
    assert batch.proposals is not None
    assert batch.proposals.boxes.shape == (1, EVALUATION_PROPOSALS, 4)
    assert batch.proposals.boxes[0, -1, 2] == pytest.approx(10.99)


def plain_recall(found: list[Any], wanted: list[Any]) -> float:
    """As it is defined, one pair and one threshold at a time, in plain Python."""

    def iou(a: Any, b: Any) -> float:
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        overlap = max(width, 0) * max(height, 0)
        return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)

    matched = []
    for boxes, objects in zip(found, wanted, strict=True):
        pairs = sorted(((iou(a, b), i, j) for i, a in enumerate(boxes) for j, b in enumerate(objects)), reverse=True)
        used_boxes: set[int] = set()
        used_objects: set[int] = set()
        for overlap, i, j in pairs:
            if i not in used_boxes and j not in used_objects:
                used_boxes.add(i)
                used_objects.add(j)
                matched.append(overlap)
    total = sum(map(len, wanted))
    return sum(sum(overlap >= t / 100 for overlap in matched) / total for t in range(50, 100, 5)) / 10


def test_recall_is_that_of_the_definition(coco: Write) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 15, (3, 5, 2))
    objects = np.concatenate((corners, corners + rng.uniform(4, 15, (3, 5, 2))), axis=2)
    boxes = np.repeat(objects, 30, axis=1) + rng.normal(0, 2, (3, 150, 4))
    annotations = [
        {"image_id": image + 1, "bbox": [*each[:2], *(each[2:] - each[:2])], "area": 10.0 + 600 * number}
        for image, rows in enumerate(objects)
        for number, each in enumerate(rows)
    ]
    crowd = {"image_id": 1, "bbox": [0, 0, 40, 30], "iscrowd": 1}
    evaluator = evaluated(coco([*annotations, crowd], images=3), boxes)
    metrics = evaluator.compute()["box_proposals"]
    assert metrics["AR@100"] == pytest.approx(plain_recall(list(boxes[:, :100]), list(objects)))
    assert metrics["AR@1000"] == pytest.approx(plain_recall(list(boxes), list(objects)))
    assert metrics["ARs@1000"] == pytest.approx(plain_recall(list(boxes), list(objects[:, :2])))
    assert metrics["ARm@100"] == pytest.approx(plain_recall(list(boxes[:, :100]), list(objects[:, 2:])))
    assert metrics["ARl@100"] is None
    assert 0.1 < metrics["AR@100"] < metrics["AR@1000"] < 1
    [(_, _, rows), (_, _, reasons)] = evaluator.tables()
    assert [row[0] for row in rows] == ["all", "small", "medium", "large"]
    assert rows[3] == ("large", "n/a", "n/a")
    assert reasons == [("large", "the dataset has no such object")]


def evaluated(dataset: CocoDataset, boxes: Any) -> ProposalEvaluator:
    evaluator = ProposalEvaluator()
    evaluator.start(dataset)
    for sample, rows in zip(dataset, boxes, strict=True):
        order = np.random.default_rng(len(rows)).permutation(len(rows))  # scores decide, not the order
        scores = torch.linspace(5, -5, len(rows))
        prediction = Prediction((30, 40), boxes=torch.from_numpy(rows)[order], scores=scores[order])
        evaluator.add(prediction, sample.info)
    return evaluator


def test_objects_of_images_without_boxes_are_missed(coco: Write) -> None:
    dataset = coco([{"bbox": [1, 1, 5, 5]}, {"bbox": [1, 1, 5, 5], "image_id": 2}], images=2)
    found = evaluated(dataset, [np.array([[1.0, 1, 6, 6]]), np.zeros((0, 4))])
    assert found.compute()["box_proposals"]["AR@100"] == 0.5


def test_each_box_is_used_once() -> None:
    objects = np.array([[0.0, 0, 10, 10], [0, 0, 10, 8]])
    assert pair_greedily(_iou(objects[:1], objects)).tolist() == [1, 0]
    assert pair_greedily(_iou(objects[:0], objects)).tolist() == [0, 0]


def test_what_is_saved_is_read_again(coco: Write, tmp_path: Path) -> None:
    evaluated(coco(images=2), [np.array([[1.0, 1, 6, 6], [2, 2, 8, 8]]), np.array([[0.0, 0, 5, 5]])]).save(tmp_path)
    table = read_proposals(tmp_path / "proposals.npz")
    assert table.of_image(1)[0].tolist() == [[1, 1, 6, 6], [2, 2, 8, 8]]
    assert table.of_file("2.jpg", 10)[0].tolist() == [[0, 0, 5, 5]]
