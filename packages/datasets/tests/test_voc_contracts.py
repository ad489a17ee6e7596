from __future__ import annotations

from pathlib import Path

from det_datasets.voc.make import make_voc
from detkit.data.source import open_split
from detkit.interfaces import Dataset
from detkit.testing.dataset import DatasetContract
from detkit.testing.evaluator import EvaluatorContract


class TestVocDataset(DatasetContract):
    name = "voc"

    def make(self, folder: Path) -> Dataset:
        make_voc(folder)
        return open_split(folder)


class TestVocEvaluator(EvaluatorContract):
    name = "voc"

    def make_dataset(self, folder: Path) -> Dataset:
        make_voc(folder, images=6, val_images=1)
        return open_split(folder)
