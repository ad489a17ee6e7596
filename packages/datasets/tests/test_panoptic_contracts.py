from __future__ import annotations

from pathlib import Path

import torch

from det_datasets.ade20k.make import make_ade20k
from det_datasets.cityscapes.make import make_cityscapes
from det_datasets.panoptic.make import make_coco_panoptic
from det_datasets.semantic.make import make_coco_stuff
from detkit.data.source import open_split
from detkit.interfaces import Dataset
from detkit.structures.batch import UNLABELLED
from detkit.structures.prediction import Prediction
from detkit.structures.sample import Sample
from detkit.testing.dataset import DatasetContract
from detkit.testing.evaluator import EvaluatorContract


def segmented(sample: Sample) -> Prediction:
    """The things and the stuff of a sample, all moved by two pixels."""
    target = sample.target
    ids = torch.zeros(sample.image.shape[-2:], dtype=torch.int32)
    segments = []
    things = [(mask > 0, label, True) for mask, label in zip(target["masks"], target["labels"].tolist(), strict=True)]
    pixels = target["semantic"].as_subclass(torch.Tensor)
    stuff = [(pixels == label, label, False) for label in pixels.unique().tolist() if label != UNLABELLED]
    for mask, label, thing in [*stuff, *things]:  # things on top of what pixels say of them
        ids[mask] = len(segments) + 1
        segments.append({"id": len(segments) + 1, "isthing": thing, "label": label})
    kept = [{**segment, "area": int((ids == segment["id"]).sum())} for segment in segments]
    return Prediction(
        tuple(ids.shape), panoptic=ids.roll(2, dims=1), segments=[segment for segment in kept if segment["area"]]
    )


class TestCocoPanopticDataset(DatasetContract):
    name = "coco-panoptic"

    def make(self, folder: Path) -> Dataset:
        make_coco_panoptic(folder, val_images=1)
        return open_split(folder)


class TestCocoDatasetWithPanopticFiles(DatasetContract):
    name = "coco"

    def make(self, folder: Path) -> Dataset:
        make_coco_panoptic(folder, val_images=1, instances=True)
        return open_split(folder)


class TestPanopticEvaluator(EvaluatorContract):
    name = "panoptic"

    def make_dataset(self, folder: Path) -> Dataset:
        make_coco_panoptic(folder, images=6, val_images=1, size=64)
        return open_split(folder)

    def predict(self, sample: Sample) -> Prediction:
        return segmented(sample)

    def find_nothing(self, sample: Sample) -> Prediction:
        size = tuple(sample.image.shape[-2:])
        return Prediction(size, panoptic=torch.zeros(size, dtype=torch.int32), segments=[])


class TestCityscapesDataset(DatasetContract):
    name = "cityscapes"

    def make(self, folder: Path) -> Dataset:
        make_cityscapes(folder, val_images=1)
        return open_split(folder)


class TestCityscapesDatasetOfPolygons(DatasetContract):
    name = "cityscapes"

    def make(self, folder: Path) -> Dataset:
        make_cityscapes(folder, val_images=1)
        for path in folder.rglob("*Ids.png"):
            path.unlink()
        return open_split(folder)


class TestCityscapesInstanceEvaluator(EvaluatorContract):
    name = "cityscapes-instances"

    def make_dataset(self, folder: Path) -> Dataset:
        make_cityscapes(folder, images=6, val_images=1)
        return open_split(folder)


class TestCityscapesSemanticEvaluator(EvaluatorContract):
    name = "cityscapes-semantic"

    def make_dataset(self, folder: Path) -> Dataset:
        make_cityscapes(folder, images=6, val_images=1)
        return open_split(folder)

    def predict(self, sample: Sample) -> Prediction:
        labels = sample.target["semantic"].as_subclass(torch.Tensor)
        return Prediction(tuple(labels.shape), semantic=labels.long().roll(2, dims=1))

    def find_nothing(self, sample: Sample) -> Prediction:
        labels = sample.target["semantic"].as_subclass(torch.Tensor)
        return Prediction(tuple(labels.shape), semantic=torch.full_like(labels, UNLABELLED, dtype=torch.int64))


class TestAde20kDataset(DatasetContract):
    name = "ade20k"

    def make(self, folder: Path) -> Dataset:
        make_ade20k(folder, val_images=1)
        return open_split(folder)


class TestAde20kPanopticDataset(DatasetContract):
    name = "ade20k-panoptic"

    def make(self, folder: Path) -> Dataset:
        make_ade20k(folder, val_images=1, panoptic=True)
        return open_split(folder)


class TestCocoStuffDataset(DatasetContract):
    name = "coco-stuff"

    def make(self, folder: Path) -> Dataset:
        make_coco_stuff(folder, images=4, val_images=1)
        return open_split(folder)
