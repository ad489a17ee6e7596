from __future__ import annotations

from pathlib import Path

from det_datasets.shapes.make import make_shapes
from detkit.data.source import open_split
from detkit.interfaces import Dataset
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
