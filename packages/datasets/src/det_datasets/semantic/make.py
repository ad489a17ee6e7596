"""Write the layout of COCO's stuff, and a tiny dataset in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hotcoco import mask as rle
from PIL import Image

from det_datasets.copies import write_image
from det_datasets.practice import write_practice
from detkit.interfaces import Dataset, DatasetWriter
from detkit.structures.batch import UNLABELLED


class CocoStuffWriter(DatasetWriter):
    """The layout of COCO's stuff: annotations/stuff_train2017.json, with a mask for each class and image, its
    annotations/stuff_train2017_pixelmaps/*.png, and the images in train2017/; val and test alike. A dataset needs
    labels of pixels; images get new numbers."""

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits into a folder; ValueError if a dataset has no labels of pixels."""
        for split, dataset in splits.items():
            if dataset.semantic_categories is None:
                raise ValueError("the dataset has no labels of pixels")
            self._write(dataset, folder, f"{split}2017")

    def _write(self, dataset: Dataset, folder: Path, name: str) -> None:
        pixels = dataset.semantic_categories
        assert pixels is not None
        ids = pixels.ids if min(pixels.ids) > 0 and max(pixels.ids) < UNLABELLED else range(1, len(pixels) + 1)
        values = np.zeros(256, np.uint8)
        values[: len(pixels)] = ids
        maps = folder / "annotations" / f"stuff_{name}_pixelmaps"
        for place in (maps, folder / name):
            place.mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(len(dataset)):
            image_id, (height, width) = index + 1, dataset.size(index)
            file = f"{image_id:012}"
            file_name = write_image(dataset, index, folder / name, file)
            images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
            ground = values[dataset.semantic_map(dataset.image_id(index)).numpy()]
            picture = Image.fromarray(ground)
            picture.putpalette([channel for value in range(256) for channel in (value, value * 7 % 256, 255 - value)])
            picture.save(maps / f"{file}.png")
            for id in sorted({*ground.ravel().tolist()} - {0}):
                code = rle.encode(np.asfortranarray((ground == id).astype(np.uint8)))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": id,
                        "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                        "area": float(rle.area(code)),
                        "bbox": [float(value) for value in rle.to_bbox(code)],
                        "iscrowd": 0,
                    }
                )
        groups = pixels.supercategories or ("",) * len(pixels)
        categories = [
            {"id": id, "name": named, "supercategory": group}
            for id, named, group in zip(ids, pixels.names, groups, strict=True)
        ]
        data = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"stuff_{name}.json").write_bytes(msgspec.json.encode(data))


def make_coco_stuff(out: Path, *, images: int = 12, val_images: int = 4, size: int = 96, seed: int = 0) -> None:
    """Write a tiny dataset of shapes on textured ground."""
    writer = CocoStuffWriter()
    write_practice(writer, out, images=images, val_images=val_images, size=size, seed=seed, semantic=True)
