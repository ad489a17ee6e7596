from __future__ import annotations

from pathlib import Path

from det_datasets.lvis.make import make_lvis
from det_datasets.objects365.make import make_objects365
from detkit.data.source import open_split
from detkit.interfaces import Dataset
from detkit.testing.dataset import DatasetContract
from detkit.testing.evaluator import EvaluatorContract


class TestLvisDataset(DatasetContract):
    name = "lvis"

    def make(self, folder: Path) -> Dataset:
        make_lvis(folder, images=16)
        return open_split(folder)


class TestObjects365Dataset(DatasetContract):
    name = "objects365"

    def make(self, folder: Path) -> Dataset:
        make_objects365(folder, images=16)
        return open_split(folder)


class TestLvisEvaluator(EvaluatorContract):
    name = "lvis"

    def make_dataset(self, folder: Path) -> Dataset:
        make_lvis(folder)
        return open_split(folder)
