"""COCO's stuff: a class for every pixel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from det_datasets.coco.schema import read_bytes
from det_datasets.pixels import NamedClass, PixelLabels
from det_datasets.semantic.images import LabelledImages, columns_of
from detkit.data.stores.store import local_file
from detkit.structures.categories import Categories

_OFFICIAL = re.compile(r"stuff_((train|val)\d*)\.json")


class _Image(msgspec.Struct):
    id: int
    file_name: str
    height: int
    width: int


class _File(msgspec.Struct):
    images: list[_Image]
    categories: list[NamedClass]


class CocoStuffDataset(LabelledImages):
    """The stuff of COCO 2017, ordered by image id: 91 classes and "other", which is of things; ids 92 to 183.

    To download (https://cocodataset.org/#download; annotations CC BY 4.0, images under Flickr's terms of use):
    train2017.zip, val2017.zip, and stuff_annotations_trainval2017.zip, in which there are zip files of pixel maps. The
    masks in the JSON file, one for each class and image, are what 'coco' reads.

    Args:
        images: folder that the file names are relative to; or tar shards, or a URL, see
            `detkit.data.stores.store.open_store`.
        annotations: the JSON file, or its URL, for its images and categories.
        pixelmaps: folder of the PNG files, whose palette indices are ids of categories, 0 where there is none.

    Raises:
        ValueError: a file is missing or not in this format.
    """

    layout: ClassVar[str] = (
        "annotations/stuff_train2017.json with annotations/stuff_train2017_pixelmaps/ or stuff_train2017_pixelmaps/, "
        "and the images in train2017/ or images/train2017/, without instances_*.json and panoptic_*.json; val alike"
    )

    def __init__(self, images: Path | str, annotations: Path | str, pixelmaps: Path) -> None:
        annotations = local_file(annotations)
        try:
            file = msgspec.json.decode(read_bytes(annotations), type=_File)
            classes = Categories.from_coco([msgspec.structs.asdict(category) for category in file.categories])
        except (msgspec.DecodeError, ValueError) as error:
            raise ValueError(f"{annotations} is not a COCO file of stuff: {error}") from None
        listed = sorted(file.images, key=lambda image: image.id)
        super().__init__(
            source=annotations,
            images=images,
            columns=columns_of((image.id, image.file_name, image.height, image.width) for image in listed),
            pixels=PixelLabels(pixelmaps, classes, values_are_ids=True),
        )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        found: dict[str, Mapping[str, Any]] = {}
        folder = path / "annotations"
        if any(folder.glob("instances_*.json")) or any(folder.glob("panoptic_*.json")):
            return None
        for file in sorted(folder.glob("stuff_*.json")):
            if match := _OFFICIAL.fullmatch(file.name):
                name = f"{file.stem}_pixelmaps"
                maps = next((place / name for place in (folder, path) if (place / name).is_dir()), None)
                places = (path / match[1], path / "images" / match[1])
                images = next((place for place in places if place.is_dir()), places[0])
                if maps is not None:
                    found[match[2]] = {"images": images, "annotations": file, "pixelmaps": maps}
        return found or None
