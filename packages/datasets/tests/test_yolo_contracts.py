from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from det_datasets.yolo.make import make_yolo
from detkit.data.source import open_split
from detkit.interfaces import Dataset
from detkit.testing.dataset import DatasetContract


class TestYoloDataset(DatasetContract):
    name = "yolo"
    task: ClassVar[str] = "segment"

    def make(self, folder: Path) -> Dataset:
        make_yolo(folder, images=8, val_images=1, size=64, task=self.task)
        return open_split(folder)


class TestYoloDatasetOfKeypoints(TestYoloDataset):
    task = "pose"
