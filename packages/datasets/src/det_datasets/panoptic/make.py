"""Write COCO's panoptic format, and a tiny dataset in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import masks_to_boxes

from det_datasets.copies import image_names, write_image
from det_datasets.panoptic.classes import category_entries
from det_datasets.panoptic.merged import require_segments, segments_of
from det_datasets.panoptic.stuff import write_stuff
from det_datasets.pixels import picture_of_ids
from det_datasets.practice import write_practice
from detkit.interfaces import Dataset, DatasetWriter


class CocoPanopticWriter(DatasetWriter):
    """COCO's panoptic layout: annotations/panoptic_train2017.json with annotations/panoptic_train2017/*.png, and the
    images in train2017/; val and test alike. A dataset needs `panoptic_map`, or masks of objects and labels of pixels.

    Args:
        instances: also write annotations/instances_train2017.json, and panoptic_stuff_train2017/ as Detectron2 prepares
            it, for models that learn instances and stuff apart (Panoptic FPN): the reader is then 'coco'.
    """

    def __init__(self, *, instances: bool = False) -> None:
        self.instances = instances

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits into a folder.

        Raises:
            ValueError: a dataset has no segments.
        """
        for dataset in splits.values():
            require_segments(dataset)
        names = image_names(splits)
        for split, dataset in splits.items():
            self._write(dataset, folder, f"{split}2017", names[split])

    def _write(self, dataset: Dataset, folder: Path, name: str, stems: list[str]) -> None:
        pictures = folder / "annotations" / f"panoptic_{name}"
        pictures.mkdir(parents=True, exist_ok=True)
        (folder / name).mkdir(exist_ok=True)
        assert dataset.semantic_categories is not None
        entries, ids_of = category_entries(dataset.categories, dataset.semantic_categories)
        images, annotations = [], []
        for index in range(len(dataset)):
            image_id, stem = dataset.image_id(index), stems[index]
            file_name = write_image(dataset, index, folder / name, stem, (".jpg", ".png"))
            height, width = dataset.size(index)
            images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
            ids, segments = segments_of(dataset, index)
            picture_of_ids(ids).save(pictures / f"{stem}.png")
            infos = [
                {
                    "id": segment["id"],
                    "category_id": ids_of[segment["isthing"], segment["label"]],
                    "area": segment["area"],
                    "bbox": box_of(ids == segment["id"]),
                    "iscrowd": int(segment["iscrowd"]),
                }
                for segment in segments
            ]
            annotations.append({"image_id": image_id, "file_name": f"{stem}.png", "segments_info": infos})
        file = folder / "annotations" / f"panoptic_{name}.json"
        data = {"images": images, "annotations": annotations, "categories": entries}
        file.write_bytes(msgspec.json.encode(data))
        if self.instances:
            truth = dataset.ground_truth()
            truth["images"] = images
            (folder / "annotations" / f"instances_{name}.json").write_bytes(msgspec.json.encode(truth))
            write_stuff(file, pictures, folder / f"panoptic_stuff_{name}")


def box_of(mask: NDArray[np.bool_]) -> list[int]:
    """x, y, width, height of the pixels of a mask (H, W) that has some."""
    left, top, right, bottom = masks_to_boxes(torch.from_numpy(mask)[None])[0].int().tolist()
    return [left, top, right - left + 1, bottom - top + 1]


def make_coco_panoptic(
    out: Path, *, images: int = 12, val_images: int = 4, size: int = 96, seed: int = 0, instances: bool = False
) -> None:
    """Write a tiny dataset of shapes on textured ground; see `write_practice` and `CocoPanopticWriter`."""
    writer = CocoPanopticWriter(instances=instances)
    write_practice(writer, out, images=images, val_images=val_images, size=size, seed=seed, semantic=True)
