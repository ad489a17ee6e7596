from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from det_datasets.coco.dataset import CocoDataset
from det_datasets.semantic.evaluator import SemanticEvaluator
from detkit.structures.prediction import Prediction

SIZE = (30, 40)


def dataset(coco: Callable[..., CocoDataset], folder: Path, *columns: int) -> CocoDataset:
    """One image with columns of these labels, each as wide as the others."""
    plain = coco()
    (folder / "semantic").mkdir()
    (folder / "semantic.json").write_text('["things", "grass", "sky", "sea"]')
    Image.fromarray(striped(*columns).numpy().astype(np.uint8)).save(folder / "semantic" / "1.png")
    return CocoDataset(plain.folder, plain.annotation_file, folder / "semantic")


def striped(*columns: int) -> torch.Tensor:
    return torch.tensor(columns).repeat_interleave(SIZE[1] // len(columns)).expand(SIZE)


def evaluated(data: CocoDataset, *columns: int) -> SemanticEvaluator:
    evaluator = SemanticEvaluator()
    evaluator.start(data)
    evaluator.add(Prediction(SIZE, semantic=striped(*columns)), {"image_id": 1})
    return evaluator


def test_metrics_are_those_of_the_confusion_matrix(coco: Callable[..., CocoDataset], tmp_path: Path) -> None:
    """Of class 1 two of three are found and one is wrong; of class 2 all of one, and two more."""
    data = dataset(coco, tmp_path, 1, 1, 1, 2, 255)
    evaluator = evaluated(data, 1, 1, 2, 2, 1)
    assert evaluator.compute()["semantic"] == pytest.approx(
        {
            "mIoU": (2 / 3 + 1 / 2) / 2,  # the answer for the pixels without label counts nowhere
            "fwIoU": 0.75 * 2 / 3 + 0.25 / 2,
            "mAcc": (2 / 3 + 1) / 2,
            "pAcc": 3 / 4,
        }
    )
    (_, _, rows), *_ = evaluator.tables()
    assert [row[2] for row in rows] == ["n/a", "66.7", "50.0", "n/a"]


def test_answers_of_classes_that_are_not_there_lower_the_others(
    coco: Callable[..., CocoDataset], tmp_path: Path
) -> None:
    data = dataset(coco, tmp_path, 1, 1)
    for wrong in (3, 255):
        assert evaluated(data, 1, wrong).compute()["semantic"]["mIoU"] == 0.5


def test_without_a_labelled_pixel_nothing_is_defined(coco: Callable[..., CocoDataset], tmp_path: Path) -> None:
    values = evaluated(dataset(coco, tmp_path, 255), 1).compute()["semantic"]
    assert set(values.values()) == {None}


def test_data_and_models_without_pixels_are_told(coco: Callable[..., CocoDataset], tmp_path: Path) -> None:
    evaluator = SemanticEvaluator()
    with pytest.raises(ValueError, match="the dataset has no labels of pixels"):
        evaluator.start(coco())
    evaluator.start(dataset(coco, tmp_path, 1))
    with pytest.raises(ValueError, match="the model labels no pixels"):
        evaluator.add(Prediction(SIZE), {"image_id": 1})
