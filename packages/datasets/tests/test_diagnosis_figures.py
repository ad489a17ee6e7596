from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch

from det_datasets.diagnosis.evaluator import DiagnosisEvaluator
from det_datasets.shapes.make import make_shapes
from detkit.data.source import open_split
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
