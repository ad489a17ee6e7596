"""ADE20K's scene parsing: a class for every pixel, and panoptic segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from det_datasets.ade20k.labels import ADE20K
from det_datasets.cache import Annotations, cached
from det_datasets.headers import read_sizes
from det_datasets.panoptic.dataset import CocoPanopticDataset
from det_datasets.pixels import PixelLabels
from det_datasets.semantic.images import NO_CLASSES, LabelledImages, columns_of
from detkit.data.stores.store import local_folder

_SPLITS = {"train": "training", "val": "validation"}


class Ade20kDataset(LabelledImages):
    """ADE20K as in the Scene Parsing Benchmark (http://sceneparsing.csail.mit.edu; Zhou et al., 2017): 150 classes of
    pixels. Images are called "ADE_train_00000001".

    To download: ADEChallengeData2016.zip (images for non-commercial research and education; annotations BSD-3-Clause).

    Args:
        folder: with images/ and annotations/, whose grey values are ids of classes from 1, 0 where there is none.
        split: train or val.

    Raises:
        ValueError: there are no images, or some cannot be read.
    """

    layout: ClassVar[str] = (
        "images/training/ADE_train_*.jpg with annotations/training/ADE_train_*.png, without "
        "ade20k_panoptic_train.json; validation alike"
    )

    def __init__(self, folder: Path, split: str = "train") -> None:
        folder = local_folder(folder)
        name = _SPLITS.get(split, split)
        paths = sorted((folder / "images" / name).glob("*.jpg"))
        if not paths:
            raise ValueError(f"there is no image {folder}/images/{name}/*.jpg")
        found = cached(partial(_read, paths), reader="ade20k 2", watched=paths)
        super().__init__(
            source=folder,
            images=folder / "images" / name,
            columns=found.columns,
            pixels=PixelLabels(folder / "annotations" / name, ADE20K, values_are_ids=True),
        )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        found = {
            split: {"folder": path, "split": split}
            for split, name in _SPLITS.items()
            if (path / "annotations" / name).is_dir() and any((path / "images" / name).glob("ADE_*.jpg"))
        }
        return None if Ade20kPanopticDataset.splits(path) else found or None


class Ade20kPanopticDataset(CocoPanopticDataset):
    """ADE20K with the panoptic files that Mask2Former's scripts make, in COCO's panoptic format: 100 classes of things,
    50 of stuff.

    To download: ADEChallengeData2016.zip and annotations_instance.tar from http://sceneparsing.csail.mit.edu (images
    for non-commercial research and education; annotations BSD-3-Clause), for those scripts.

    Args:
        images: see `CocoPanopticDataset`.
        annotations: ade20k_panoptic_train.json.
        pictures: ade20k_panoptic_train/.
        things_together: see `CocoPanopticDataset`.
    """

    layout: ClassVar[str] = (
        "ade20k_panoptic_train.json with ade20k_panoptic_train/ and images/training/; ade20k_panoptic_val.json alike"
    )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        found = {}
        for split, name in _SPLITS.items():
            file, pictures = path / f"ade20k_panoptic_{split}.json", path / f"ade20k_panoptic_{split}"
            if file.is_file() and pictures.is_dir():
                found[split] = {"images": path / "images" / name, "annotations": file, "pictures": pictures}
        return found or None


def _read(paths: list[Path]) -> Annotations:
    """The sizes of images, from their headers."""
    sizes = read_sizes(paths).tolist()
    listed = ((path.stem, path.name, height, width) for path, (height, width) in zip(paths, sizes, strict=True))
    return Annotations(columns_of(listed), NO_CLASSES, Counter())
