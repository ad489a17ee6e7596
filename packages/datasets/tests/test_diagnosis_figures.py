from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from det_datasets.diagnosis.evaluator import DiagnosisEvaluator
from det_datasets.shapes.make import make_shapes
from detkit.data.source import open_split
from detkit.data.targets import rasterized, without_crowds
from detkit.interfaces import Dataset
from detkit.report.figures import Bars, Curves, Matrix, Pictures, Table
from detkit.structures.prediction import Prediction
from detkit.testing.evaluator import EvaluatorContract


class TestDiagnosis(EvaluatorContract):
    name = "diagnosis"
    arguments: ClassVar = {"compare": "masks"}

    def make_dataset(self, folder: Path) -> Dataset:
        make_shapes(folder, images=6, val_images=1, size=64, crowd_share=0.5)
        return open_split(folder)


def test_figures_show_curves_confusion_errors_and_the_worst_images(tmp_path: Path) -> None:
    make_shapes(tmp_path, images=4, val_images=1, size=64, background_share=0)
    dataset = open_split(tmp_path)
    evaluator = DiagnosisEvaluator(worst=2)
    evaluator.start(dataset)
    for index in range(len(dataset)):
        sample = dataset[index]
        fields = {"boxes": sample.target["boxes"].as_subclass(torch.Tensor), "labels": sample.target["labels"]}
        count = len(fields["labels"]) if index != 2 else 0  # nothing is found in one image
        prediction = Prediction(
            tuple(sample.image.shape[-2:]), **fields, scores=torch.full((len(fields["labels"]),), 0.9)
        )
        evaluator.add(prediction.select(torch.arange(count)), sample.info)
    evaluator.compute()
    figures = evaluator.figures()
    kinds = [type(each) for each in figures]
    assert [kinds.count(kind) for kind in (Curves, Bars, Matrix, Table, Pictures)] == [4, 2, 1, 1, 1]
    pictures = next(each for each in figures if isinstance(each, Pictures)).pictures
    assert [each.title for each in pictures] == [str(dataset.image_id(2))]
    count = len(dataset.labels(2))
    assert pictures[0].text == f"{count} missed; 0 right"
    assert [view.name for view in pictures[0].views] == ["annotated", "predicted"]
    assert {max(view.image.size) for view in pictures[0].views} == {480}


def test_masks_and_keypoints_are_drawn_in_colours_that_say_what_became_of_them(tmp_path: Path) -> None:
    """One image whose first object is found, the second one taken for another class, the others missed."""
    make_shapes(tmp_path, images=1, val_images=1, size=160, background_share=0, keypoints=True)
    dataset = open_split(tmp_path)
    sample = dataset[0]
    plain = rasterized(without_crowds(sample))
    labels = plain["labels"][:2].clone()
    labels[1] = (labels[1] + 1) % len(dataset.categories)
    fields = {"masks": plain["masks"][:2].bool(), "keypoints": plain["keypoints"].as_subclass(torch.Tensor)[:2]}
    boxes = plain["boxes"].as_subclass(torch.Tensor)[:2]
    size = tuple(sample.image.shape[-2:])
    evaluator = DiagnosisEvaluator(confidence=0.5)
    evaluator.start(dataset)
    scores = torch.tensor([0.9, 0.8])
    evaluator.add(Prediction(size, boxes=boxes, scores=scores, labels=labels, **fields), sample.info)
    evaluator.compute()
    ((picture,),) = [figure.pictures for figure in evaluator.figures() if isinstance(figure, Pictures)]
    others = len(plain["labels"]) - 2
    assert picture.text == (f"{others} missed, " if others else "") + "1 wrong class; 1 right"
    green, red, amber = (38, 160, 90), (224, 60, 45), (255, 190, 20)
    for view, colours in zip(picture.views, ((green, amber), (green, red)), strict=True):
        drawn = torch.from_numpy(np.array(view.image)).permute(2, 0, 1)
        for number, colour in enumerate(colours):
            edge = plain["masks"][number].bool() & ~_shrunk(plain["masks"][number].bool())
            large = torch.nn.functional.interpolate(edge[None, None].float(), drawn.shape[1:], mode="nearest")[0, 0] > 0
            assert (drawn == torch.tensor(colour)[:, None, None]).all(dim=0)[large].float().mean() > 0.2


def _shrunk(mask: torch.Tensor) -> torch.Tensor:
    """A mask (H, W) without the pixels at its border."""
    outside = torch.nn.functional.max_pool2d((~mask)[None].float(), 3, 1, 1)[0] > 0
    return mask & ~outside


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"iou": 0.05}, "iou is 0.05"),
        ({"compare": "points"}, "there are 'boxes' and 'masks'"),
        ({"confidence": 2.0}, "confidence is 2.0"),
        ({"bins": 0}, "bins is 0"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiagnosisEvaluator(**arguments)
