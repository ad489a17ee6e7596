"""The contracts of readers, on practice data in their layouts. (That of COCO is in `test_contracts`.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from det_datasets.ade20k.make import make_ade20k
from det_datasets.cityscapes.make import make_cityscapes
from det_datasets.lvis.make import make_lvis
from det_datasets.objects365.make import make_objects365
from det_datasets.panoptic.make import make_coco_panoptic
from det_datasets.semantic.make import make_coco_stuff
from det_datasets.voc.make import make_voc
from det_datasets.yolo.make import make_yolo
from detkit.data.source import open_split
from detkit.interfaces import Dataset
from detkit.testing.dataset import DatasetContract


class PracticeContract(DatasetContract, contract=True):
    maker: ClassVar[Callable[..., None]]
    options: ClassVar[Mapping[str, Any]] = {}

    def make(self, folder: Path) -> Dataset:
        self.maker(folder, **{"val_images": 1, **self.options})
        return open_split(folder)


class TestLvisDataset(PracticeContract):
    name = "lvis"
    maker = staticmethod(make_lvis)
    options = {"images": 16}


class TestObjects365Dataset(PracticeContract):
    name = "objects365"
    maker = staticmethod(make_objects365)
    options = {"images": 16}


class TestVocDataset(PracticeContract):
    name = "voc"
    maker = staticmethod(make_voc)


class TestYoloDataset(PracticeContract):
    name = "yolo"
    maker = staticmethod(make_yolo)
    options = {"images": 8, "size": 64, "task": "segment"}


class TestYoloDatasetOfKeypoints(PracticeContract):
    name = "yolo"
    maker = staticmethod(make_yolo)
    options = {"images": 8, "size": 64, "task": "pose"}


class TestCocoPanopticDataset(PracticeContract):
    name = "coco-panoptic"
    maker = staticmethod(make_coco_panoptic)


class TestCocoDatasetWithPanopticFiles(PracticeContract):
    name = "coco"
    maker = staticmethod(make_coco_panoptic)
    options = {"instances": True}


class TestCocoStuffDataset(PracticeContract):
    name = "coco-stuff"
    maker = staticmethod(make_coco_stuff)
    options = {"images": 4}


class TestCityscapesDataset(PracticeContract):
    name = "cityscapes"
    maker = staticmethod(make_cityscapes)


class TestCityscapesDatasetOfPolygons(TestCityscapesDataset):
    def make(self, folder: Path) -> Dataset:
        make_cityscapes(folder, val_images=1)
        for path in folder.rglob("*Ids.png"):
            path.unlink()
        return open_split(folder)


class TestAde20kDataset(PracticeContract):
    name = "ade20k"
    maker = staticmethod(make_ade20k)


class TestAde20kPanopticDataset(PracticeContract):
    name = "ade20k-panoptic"
    maker = staticmethod(make_ade20k)
    options = {"panoptic": True}
