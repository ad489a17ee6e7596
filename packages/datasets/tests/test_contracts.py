from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from det_datasets.shapes.make import make_shapes
from detkit.data.source import open_split
from detkit.interfaces import Dataset
from detkit.structures.batch import UNLABELLED
from detkit.structures.prediction import Prediction
from detkit.structures.sample import Sample
from detkit.testing.dataset import DatasetContract
from detkit.testing.evaluator import EvaluatorContract
from detkit.testing.plugin import PluginContract


def shapes(folder: Path) -> Dataset:
    make_shapes(folder, images=12, val_images=1, background_share=0.2, crowd_share=0.4)
    return open_split(folder)


class TestPlugin(PluginContract):
    distribution = "det-datasets"


class TestCocoDataset(DatasetContract):
    name = "coco"

    def make(self, folder: Path) -> Dataset:
        return shapes(folder)


class TestCocoDatasetWithKeypoints(DatasetContract):
    name = "coco"

    def make(self, folder: Path) -> Dataset:
        make_shapes(folder, images=12, val_images=1, background_share=0.2, keypoints=True)
        return open_split(folder)


class TestCocoDatasetWithPixels(DatasetContract):
    name = "coco"

    def make(self, folder: Path) -> Dataset:
        make_shapes(folder, images=12, val_images=1, background_share=0.2, semantic=True)
        return open_split(folder)


class TestSemanticEvaluator(EvaluatorContract):
    name = "semantic"

    def make_dataset(self, folder: Path) -> Dataset:
        make_shapes(folder, images=6, val_images=1, size=64, semantic=True)
        return open_split(folder)

    def predict(self, sample: Sample) -> Prediction:
        labels = sample.target["semantic"].as_subclass(Tensor)
        return Prediction(tuple(labels.shape), semantic=labels.long().roll(2, dims=1))

    def find_nothing(self, sample: Sample) -> Prediction:
        labels = sample.target["semantic"].as_subclass(Tensor)
        return Prediction(tuple(labels.shape), semantic=torch.full_like(labels, UNLABELLED, dtype=torch.int64))


class TestProposalEvaluator(EvaluatorContract):
    name = "proposals"

    def make_dataset(self, folder: Path) -> Dataset:
        return shapes(folder)


class TestCocoEvaluator(EvaluatorContract):
    name = "coco"

    def make_dataset(self, folder: Path) -> Dataset:
        return shapes(folder)


class TestCocoEvaluatorOfKeypoints(TestCocoEvaluator):
    def make_dataset(self, folder: Path) -> Dataset:
        make_shapes(folder, images=12, val_images=1, background_share=0.2, keypoints=True)
        return open_split(folder)
