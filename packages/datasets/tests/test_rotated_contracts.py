"""The contracts of a reader and of evaluators on rotated boxes."""

from __future__ import annotations

from pathlib import Path

from det_datasets.dota.make import make_dota
from detkit.data.source import open_split
from detkit.interfaces import Dataset
from detkit.testing.dataset import DatasetContract
from detkit.testing.evaluator import EvaluatorContract


class TestDotaDataset(DatasetContract):
    name = "dota"

    def make(self, folder: Path) -> Dataset:
        make_dota(folder, images=16, val_images=1)
        return open_split(folder)


class RotatedContract(EvaluatorContract, contract=True):
    def make_dataset(self, folder: Path) -> Dataset:
        make_dota(folder, images=6, val_images=1, size=64)
        return open_split(folder)


class TestCocoEvaluator(RotatedContract):
    name = "coco"


class TestVocEvaluator(RotatedContract):
    name = "voc"


class TestDiagnosis(RotatedContract):
    name = "diagnosis"
