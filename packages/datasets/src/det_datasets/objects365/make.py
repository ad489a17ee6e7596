"""Write Objects365's layout, and a tiny dataset in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from det_datasets.copies import write_image
from det_datasets.practice import write_practice
from detkit.interfaces import Dataset, DatasetWriter

_NEWER = 16  # the first patch of images that v1 does not have


class Objects365Writer(DatasetWriter):
    """Objects365's layout: annotations/zhiyuan_objv2_train.json, and the images in train/patch0/, train/patch1/, ...;
    of v1, annotations/objects365_train.json, and the images in train/. Other splits alike.

    Images are numbered through all splits. Objects that are difficult, which Objects365 does not know, become crowds.

    Args:
        version: "v2" or "v1".
        in_patch: images in each patch; Objects365 has about so many.
    """

    def __init__(self, *, version: Literal["v2", "v1"] = "v2", in_patch: int = 40_000) -> None:
        if version not in ("v1", "v2"):
            raise ValueError(f"version is {version!r}; there are 'v1' and 'v2'")
        if in_patch < 1:
            raise ValueError(f"in_patch is {in_patch}; a patch has an image at least")
        self.version = version
        self.in_patch = in_patch

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits into a folder.

        Raises:
            ValueError: a dataset has rotated boxes.
        """
        if rotated := [split for split, dataset in splits.items() if dataset.rotated]:
            raise ValueError(f"{', '.join(rotated)} has rotated boxes; those of Objects365 are upright")
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
        number = 0
        for split, dataset in splits.items():
            name = "zhiyuan_objv2" if self.version == "v2" else "objects365"
            truth = self._write(dataset, split, folder / split, number)
            (folder / "annotations" / f"{name}_{split}.json").write_bytes(msgspec.json.encode(truth))
            number += len(dataset)

    def _write(self, dataset: Dataset, split: str, folder: Path, before: int) -> dict[str, Any]:
        """Write the images of a split, which this many images come before; what its file holds."""
        own = dataset.ground_truth()
        numbers: dict[Any, int] = {}
        images = []
        for index in range(len(dataset)):
            number = numbers[dataset.image_id(index)] = before + index + 1
            patch = index // self.in_patch
            version = "v1" if patch < _NEWER else "v2"
            within, name = f"patch{patch}", f"objects365_{version}_{number:08}"
            if self.version == "v1":
                within, name = "", f"obj365_{split}_{number:012}"
            (folder / within).mkdir(parents=True, exist_ok=True)
            file = write_image(dataset, index, folder / within, name)
            height, width = dataset.size(index)
            place = f"images/{version}/{within}/{file}" if within else file
            images.append({"id": number, "file_name": place, "height": height, "width": width})
        labels = {id: label for label, id in enumerate(dataset.categories.ids, start=1)}
        annotations = [
            {
                "id": place,
                "image_id": numbers[entry["image_id"]],
                "category_id": labels[entry["category_id"]],
                "bbox": entry["bbox"],
                "area": entry["bbox"][2] * entry["bbox"][3],
                "iscrowd": int(bool(entry["iscrowd"] or entry.get("ignore"))),
                "isfake": entry.get("isfake", 0),
                "isreflected": entry.get("isreflected", 0),
            }
            for place, entry in enumerate(own["annotations"], start=1)
        ]
        categories = [{"id": id, "name": name} for id, name in enumerate(dataset.categories.names, start=1)]
        return {"images": images, "annotations": annotations, "categories": categories}


def make_objects365(out: Path, *, images: int = 12, val_images: int = 4, size: int = 96, seed: int = 0) -> None:
    """Write a tiny dataset of shapes, in patches of five images."""
    writer = Objects365Writer(in_patch=5)
    write_practice(writer, out, images=images, val_images=val_images, size=size, seed=seed)
