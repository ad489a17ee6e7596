from __future__ import annotations

from collections.abc import Callable

import torch
from torchvision import tv_tensors

from det_datasets.coco.dataset import CocoDataset
from detkit.data.check import check
from detkit.data.python_source import Given

Write = Callable[..., CocoDataset]
TURNED = [10.0, 5.0, 20.0, 10.0, 30.0]


def test_five_numbers_are_a_rotated_box(coco: Write) -> None:
    boxes = coco([{"bbox": TURNED}])[0].target["boxes"]
    assert boxes.format == tv_tensors.BoundingBoxFormat.CXCYWHR
    assert boxes.clamping_mode is None
    assert boxes.tolist() == [TURNED]


def test_upright_boxes_among_rotated_ones_are_not_turned(coco: Write) -> None:
    dataset = coco([{"bbox": TURNED}, {"bbox": [10, 5, 20, 10]}, {"segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]]}])
    assert dataset[0].target["boxes"].tolist() == [TURNED, [20, 10, 20, 10, 0], [20, 10, 20, 10, 0]]
    reports, _ = check({"train": Given(dataset)})
    assert "box-aside" not in reports["train"].findings.counts


def test_a_box_without_area_is_left_out(coco: Write) -> None:
    dataset = coco([{"bbox": TURNED}, {"bbox": [10.0, 5, 0, 10, 30]}])
    assert len(dataset[0].target["labels"]) == 1
    assert dataset.problems["have an empty box: left out"] == 1
    assert torch.equal(dataset[0].target["boxes"][0], torch.tensor(TURNED))
