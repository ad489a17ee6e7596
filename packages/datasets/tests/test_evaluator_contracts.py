"""The contracts of evaluators, on practice data. (Those of COCO's are in `test_contracts`.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from det_datasets.cityscapes.make import make_cityscapes
from det_datasets.lvis.make import make_lvis
from det_datasets.panoptic.make import make_coco_panoptic
from det_datasets.shapes.make import make_shapes
from det_datasets.voc.make import make_voc
from detkit.data.source import open_split
from detkit.interfaces import Dataset
from detkit.structures.batch import UNLABELLED
from detkit.structures.prediction import Prediction
from detkit.structures.sample import Sample
from detkit.testing.evaluator import EvaluatorContract


class PracticeContract(EvaluatorContract, contract=True):
    maker: ClassVar[Callable[..., None]]
    options: ClassVar[Mapping[str, Any]] = {}

    def make_dataset(self, folder: Path) -> Dataset:
        self.maker(folder, **{"images": 6, "val_images": 1, **self.options})
        return open_split(folder)


class PixelsContract(PracticeContract, contract=True):
    def predict(self, sample: Sample) -> Prediction:
        labels = sample.target["semantic"].as_subclass(torch.Tensor)
        return Prediction(tuple(labels.shape), semantic=labels.long().roll(2, dims=1))

    def find_nothing(self, sample: Sample) -> Prediction:
        labels = sample.target["semantic"].as_subclass(torch.Tensor)
        return Prediction(tuple(labels.shape), semantic=torch.full_like(labels, UNLABELLED, dtype=torch.int64))


class TestLvisEvaluator(PracticeContract):
    """With Fixed AP, of so few detections of a class that some are left out, and boundaries."""

    name = "lvis"
    arguments = {"fixed": 2, "boundary": True}
    maker = staticmethod(make_lvis)
    options = {"images": 12}


class TestVocEvaluator(PracticeContract):
    name = "voc"
    maker = staticmethod(make_voc)


class TestCityscapesInstanceEvaluator(PracticeContract):
    name = "cityscapes-instances"
    maker = staticmethod(make_cityscapes)


class TestCityscapesSemanticEvaluator(PixelsContract):
    name = "cityscapes-semantic"
    maker = staticmethod(make_cityscapes)


class TestSemanticEvaluator(PixelsContract):
    name = "semantic"
    maker = staticmethod(make_shapes)
    options = {"size": 64, "semantic": True}


class TestPanopticEvaluator(PracticeContract):
    name = "panoptic"
    maker = staticmethod(make_coco_panoptic)
    options = {"size": 64}

    def predict(self, sample: Sample) -> Prediction:
        """The things and the stuff of a sample, all moved by two pixels."""
        target = sample.target
        ids = torch.zeros(sample.image.shape[-2:], dtype=torch.int32)
        segments = []
        masks = zip(target["masks"], target["labels"].tolist(), strict=True)
        pixels = target["semantic"].as_subclass(torch.Tensor)
        stuff = [(pixels == label, label, False) for label in pixels.unique().tolist() if label != UNLABELLED]
        for mask, label, thing in [*stuff, *((mask > 0, label, True) for mask, label in masks)]:  # things on top
            ids[mask] = len(segments) + 1
            segments.append({"id": len(segments) + 1, "isthing": thing, "label": label})
        sized = [{**segment, "area": int((ids == segment["id"]).sum())} for segment in segments]
        visible = [segment for segment in sized if segment["area"]]
        return Prediction(tuple(ids.shape), panoptic=ids.roll(2, dims=1), segments=visible)

    def find_nothing(self, sample: Sample) -> Prediction:
        size = tuple(sample.image.shape[-2:])
        return Prediction(size, panoptic=torch.zeros(size, dtype=torch.int32), segments=[])
