"""Images in COCO's panoptic format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from det_datasets.cache import Annotations, cached
from det_datasets.columns import ColumnsBuilder, Strings
from det_datasets.errors import Errors
from det_datasets.panoptic import layout
from det_datasets.panoptic.schema import (
    PanopticAnnotation,
    PanopticCategory,
    PanopticFile,
    classes_of,
    read_panoptic,
)
from det_datasets.panoptic.segmented import SegmentedImages
from det_datasets.pixels import read_ids
from detkit.data.stores.store import local_file, local_folder
from detkit.structures.categories import Categories


class CocoPanopticDataset(SegmentedImages):
    """A COCO panoptic file with its pictures, and its images, ordered by id: Detectron2's `coco_2017_*_panoptic`.

    To download (https://cocodataset.org/#download; annotations CC BY 4.0, images under Flickr's terms of use):
    train2017.zip, val2017.zip, and panoptic_annotations_trainval2017.zip, in which there are further zip files.

    Things are the objects, with the boxes of the file and the masks of the pictures; the labels of pixels are those of
    their segments. Segments without pixels are left out, and counted in `problems`.

    Args:
        images: folder that the file names are relative to; or tar shards, or a URL, see
            `detkit.data.stores.store.open_store`.
        annotations: the JSON file, or its URL.
        pictures: folder of the PNG files, whose colours are the ids of segments: red + 256 green + 65536 blue.
        things_together: pixels of things have one class, "things", with label 0, as Panoptic FPN needs it; else each
            has the class of its thing.

    Raises:
        ValueError: a file is missing or not in this format, lists no images, or its ids make no sense.
    """

    layout: ClassVar[str] = layout.LAYOUT

    def __init__(
        self, images: Path | str, annotations: Path | str, pictures: Path, things_together: bool = False
    ) -> None:
        self.annotation_file, self._pictures = local_file(annotations), local_folder(pictures)
        if not self._pictures.is_dir():
            raise ValueError(f"there is no folder {self._pictures} with the pictures of {self.annotation_file}")
        found = cached(partial(_read, self.annotation_file), reader="coco-panoptic 1", sources=[self.annotation_file])
        categories = msgspec.convert(found.extra["categories"], list[PanopticCategory])
        self._picture_names = Strings.of(found.extra["pictures"])
        super().__init__(
            source=self.annotation_file,
            images=images,
            columns=found.columns,
            classes=classes_of(categories, together=things_together),
            problems=found.problems,
        )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        return layout.find_splits(path)

    def read_ids(self, index: int) -> NDArray[np.int32]:
        name = self._picture_names[index]
        return read_ids(self._pictures / name, self.size(index)) if name else np.zeros(self.size(index), np.int32)


def _read(path: Path) -> Annotations:
    """All segments as objects; besides, the entries of the categories, and the names of the pictures, empty where an
    image has none."""
    file = read_panoptic(path)
    if not file.images:
        raise ValueError(f"{path} lists no images; there is nothing to read")
    problems: Counter[str] = Counter()
    try:
        classes = classes_of(file.categories, together=False).everything
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    segments, pictures = _segments(path, file, classes, problems)
    extra = {"categories": msgspec.to_builtins(file.categories), "pictures": pictures}
    return Annotations(segments.build(), classes, problems, extra)


def _segments(
    path: Path, file: PanopticFile, classes: Categories, problems: Counter[str]
) -> tuple[ColumnsBuilder, list[str]]:
    errors = Errors()
    annotations: dict[int | str, PanopticAnnotation] = {}
    for annotation in file.annotations:
        if annotation.image_id in annotations:
            errors.note(f"{path}: image {annotation.image_id!r} has several annotations; each must have one")
        annotations[annotation.image_id] = annotation
    segments, pictures = ColumnsBuilder(), []
    before = None
    for image in sorted(file.images, key=lambda image: image.id):
        if image.id == before:
            errors.note(f"{path}: image id {image.id!r} is given to more than one image; each must be unique")
        before = image.id
        segments.image(image.id, image.file_name, image.height, image.width)
        found = annotations.pop(image.id, None)
        pictures.append(found.file_name if found else "")
        for entry in found.segments_info if found else ():
            try:
                label = classes.label_of_id(entry.category_id)
            except KeyError:
                errors.note(
                    f"{path}: segment {entry.id} of image {image.id!r} has category_id {entry.category_id}, which "
                    "'categories' does not define"
                )
                continue
            left, top, width, height = entry.bbox
            if entry.area < 1 or min(width, height) <= 0:
                problems["segments without pixels: left out"] += 1
                continue
            box = (left, top, min(left + width, image.width), min(top + height, image.height))
            segments.object(label, box, id=entry.id, area=entry.area, crowd=bool(entry.iscrowd))
    errors.raise_all()
    if annotations:
        problems["belong to images that the file does not list: left out"] += len(annotations)
    return segments, pictures
