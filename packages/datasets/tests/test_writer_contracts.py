from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from det_datasets.ade20k.make import make_ade20k
from det_datasets.cityscapes.make import make_cityscapes
from det_datasets.dota.make import make_dota
from det_datasets.shapes.make import make_shapes
from detkit.data.source import find_splits, open_split
from detkit.data.subset import Subset
from detkit.interfaces import Dataset
from detkit.testing.dataset import DatasetContract
from detkit.testing.dataset_writer import DatasetWriterContract


def opened(folder: Path) -> Mapping[str, Dataset]:
    return {name: split.open() for name, split in find_splits(folder).items()}


class ShapesContract(DatasetWriterContract, contract=True):
    def make(self, folder: Path) -> Mapping[str, Dataset]:
        make_shapes(folder, images=8, val_images=3, size=64, background_share=0.2, crowd_share=0.4)
        return opened(folder)


class PixelsContract(DatasetWriterContract, contract=True):
    def make(self, folder: Path) -> Mapping[str, Dataset]:
        make_shapes(folder, images=6, val_images=3, size=64, crowd_share=0.4, semantic=True)
        return opened(folder)


class TestCoco(ShapesContract):
    name = "coco"
    box_tolerance = 0.0


class TestCocoOfPixels(PixelsContract):
    name = "coco"
    box_tolerance = 0.0


class TestCocoWithLinks(ShapesContract):
    name = "coco"
    arguments = {"images": "link"}
    box_tolerance = 0.0


class TestVoc(ShapesContract):
    name = "voc"
    box_tolerance = 1.0  # whole pixels


class TestYolo(ShapesContract):
    name = "yolo"
    arguments = {"task": "detect"}


class TestOpenImages(ShapesContract):
    name = "openimages"


class TestLvis(ShapesContract):
    name = "lvis"


class TestObjects365(ShapesContract):
    name = "objects365"


class TestWebDataset(ShapesContract):
    name = "webdataset"


class TestDota(DatasetWriterContract):
    name = "dota"
    box_tolerance = 0.1

    def make(self, folder: Path) -> Mapping[str, Dataset]:
        make_dota(folder, images=6, val_images=3, size=64)
        return opened(folder)


class TestCocoPanoptic(PixelsContract):
    name = "coco-panoptic"
    box_tolerance = 2.0  # of pixels that no other object has


class TestCocoStuff(PixelsContract):
    name = "coco-stuff"
    box_tolerance = None


class TestCityscapes(DatasetWriterContract):
    name = "cityscapes"
    box_tolerance = 1.0

    def make(self, folder: Path) -> Mapping[str, Dataset]:
        make_cityscapes(folder, images=5, val_images=2, size=64)
        return opened(folder)


class TestAde20k(DatasetWriterContract):
    name = "ade20k"
    box_tolerance = None

    def make(self, folder: Path) -> Mapping[str, Dataset]:
        make_ade20k(folder, images=5, val_images=2, size=64, panoptic=True)
        return opened(folder)


class TestSubset(DatasetContract):
    def make(self, folder: Path) -> Dataset:
        make_shapes(folder, images=12, val_images=1, background_share=0.2, crowd_share=0.4, semantic=True)
        return Subset(open_split(folder), [11, 2, *range(4, 10)])


def test_a_subset_has_the_ground_truth_of_its_images(tmp_path: Path) -> None:
    make_shapes(tmp_path, images=6, val_images=1, size=64)
    whole = open_split(tmp_path)
    truth = Subset(whole, [4, 1]).ground_truth()
    assert [entry["id"] for entry in truth["images"]] == [5, 2]
    annotations = whole.ground_truth()["annotations"]
    assert truth["annotations"] == [entry for entry in annotations if entry["image_id"] in (2, 5)]
