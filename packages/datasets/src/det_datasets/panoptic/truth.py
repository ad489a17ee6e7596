"""Panoptic segments beside a COCO instances file: what panoptic models are evaluated with that learn from instances and
labels of pixels apart, Detectron2's `coco_2017_*_panoptic_separated`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from det_datasets.panoptic.schema import PanopticAnnotation, classes_of, read_classes, read_panoptic
from det_datasets.pixels import PixelLabels, names_file, read_ids
from detkit.data.stores.store import local_folder
from detkit.structures.categories import Categories


class PanopticTruth:
    """A panoptic JSON file and its pictures. Segments are read when the first is asked for, which training never does.

    Args:
        annotations: the JSON file.
        pictures: folder of the PNG files.

    Raises:
        ValueError: they are missing or not in this format.
    """

    def __init__(self, annotations: Path, pictures: Path) -> None:
        pictures = local_folder(pictures)
        if not pictures.is_dir():
            raise ValueError(f"there is no folder {pictures} with the pictures of {annotations}")
        self.annotation_file, self.pictures = annotations, pictures
        try:
            self.classes = classes_of(read_classes(annotations), together=True)
        except ValueError as error:
            raise ValueError(f"{annotations}: {error}") from None
        self._annotations: dict[int | str, PanopticAnnotation] | None = None

    def require(self, things: Categories) -> None:
        """ValueError unless the things are these, by their ids and names."""
        if (things.ids, things.names) != (self.classes.things.ids, self.classes.things.names):
            raise ValueError(
                f"{self.annotation_file} has other things than the instances: {', '.join(self.classes.things.names)}; "
                f"{', '.join(things.names)}"
            )

    def pixel_labels(self, folder: Path) -> PixelLabels:
        """The labels of pixels in a folder, which has a class for all things and then those of stuff in the order of
        their ids, as `write_stuff` and Detectron2 write them: the folder needs no file of names."""
        if names_file(folder).is_file():
            names = PixelLabels(folder).categories.names
            if names[1:] != self.classes.pixels.names[1:]:
                raise ValueError(
                    f"{names_file(folder)} names {', '.join(names)}; {self.annotation_file} has "
                    f"{', '.join(self.classes.pixels.names)}"
                )
        return PixelLabels(folder, self.classes.pixels)

    def map(self, image_id: int | str, size: tuple[int, int]) -> tuple[Tensor, list[dict[str, Any]]]:
        """See `Dataset.panoptic_map`."""
        if self._annotations is None:
            file = read_panoptic(self.annotation_file)
            self._annotations = {annotation.image_id: annotation for annotation in file.annotations}
        if image_id not in self._annotations:
            raise ValueError(f"{self.annotation_file} has no segments of image {image_id}")
        annotation = self._annotations[image_id]
        segments = []
        for entry in annotation.segments_info:
            thing, label = self.classes.label_of_id(entry.category_id)
            known = {"id": entry.id, "isthing": thing, "label": label}
            segments.append({**known, "area": entry.area, "iscrowd": bool(entry.iscrowd)})
        return torch.from_numpy(read_ids(self.pictures / annotation.file_name, size)), segments
