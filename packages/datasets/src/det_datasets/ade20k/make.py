"""Write ADE20K's layout, and a tiny dataset in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from det_datasets.ade20k.labels import ADE20K, THINGS
from det_datasets.copies import write_image
from det_datasets.panoptic.make import box_of
from det_datasets.panoptic.merged import require_segments, segments_of
from det_datasets.pixels import picture_of_ids
from det_datasets.practice import write_practice
from detkit.interfaces import Dataset, DatasetWriter

_FOLDERS = {"train": "training", "val": "validation"}
_NAMES = {
    "circle": "ball",
    "square": "box",
    "triangle": "cushion",
    "star": "lamp",
    "cross": "chair",
    "plain": "wall",
    "stripes": "floor",
    "noise": "tree",
}
"""What shapes and grounds become in a practice dataset."""
_ENTRIES = [
    {"id": number, "name": name, "isthing": int(name in THINGS)} for number, name in enumerate(ADE20K.names)
]  # Mask2Former counts from 0


class Ade20kWriter(DatasetWriter):
    """The layout of ADE20K's Scene Parsing Benchmark: images/training/ADE_train_00000001.jpg and annotations/training/
    with a PNG for each; validation alike. A dataset needs `panoptic_map`, or masks of objects and labels of pixels; its
    classes must be named as in ADE20K.

    Args:
        panoptic: also write ade20k_panoptic_train.json with ade20k_panoptic_train/, as Mask2Former's scripts do.
    """

    def __init__(self, *, panoptic: bool = False) -> None:
        self.panoptic = panoptic

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits into a folder.

        Raises:
            ValueError: a dataset has no segments, or classes that ADE20K does not have.
        """
        for split, dataset in splits.items():
            require_segments(dataset, "ADE20K", ADE20K.names)
            self._write(dataset, folder, split)

    def _write(self, dataset: Dataset, folder: Path, split: str) -> None:
        name = _FOLDERS.get(split, split)
        places = [folder / "images" / name, folder / "annotations" / name, folder / f"ade20k_panoptic_{split}"]
        for place in places[: 2 + self.panoptic]:
            place.mkdir(parents=True, exist_ok=True)
        images, annotations = [], []
        for index in range(len(dataset)):
            stem = f"ADE_{split}_{index + 1:08}"
            write_image(dataset, index, places[0], stem)
            ids, segments = segments_of(dataset, index)
            values, infos = np.zeros(ids.shape, np.uint8), []
            for segment in segments:
                label = ADE20K.label_of_name(segment["name"])
                assert label is not None
                mask = ids == segment["id"]
                values[mask] = label + 1
                infos.append(
                    {
                        "id": segment["id"],
                        "category_id": label,
                        "iscrowd": int(segment["iscrowd"]),
                        "bbox": box_of(mask),
                        "area": segment["area"],
                    }
                )
            Image.fromarray(values).save(places[1] / f"{stem}.png")
            height, width = ids.shape
            images.append({"id": stem, "file_name": f"{stem}.jpg", "height": height, "width": width})
            annotations.append({"image_id": stem, "file_name": f"{stem}.png", "segments_info": infos})
            if self.panoptic:
                picture_of_ids(ids).save(places[2] / f"{stem}.png")
        if self.panoptic:
            data = {"images": images, "annotations": annotations, "categories": _ENTRIES}
            (folder / f"ade20k_panoptic_{split}.json").write_bytes(msgspec.json.encode(data))


def make_ade20k(
    out: Path, *, images: int = 12, val_images: int = 4, size: int = 96, seed: int = 0, panoptic: bool = False
) -> None:
    """Write a tiny dataset of shapes on textured ground, which are called balls, boxes, walls, ..."""
    writer = Ade20kWriter(panoptic=panoptic)
    write_practice(writer, out, images=images, val_images=val_images, size=size, seed=seed, names=_NAMES, semantic=True)
