"""Write Open Images' layout, and a tiny dataset in it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from det_datasets.copies import flags, image_names, write_image
from det_datasets.openimages.dataset import SPLITS, OpenImagesDataset
from det_datasets.openimages.table import image_number
from det_datasets.practice import write_practice
from detkit.interfaces import Dataset, DatasetWriter

_HEADER = (
    "ImageID Source LabelName Confidence XMin XMax YMin YMax IsOccluded IsTruncated IsGroupOf IsDepiction IsInside"
)
_PRACTICE_NAMES = {"circle": "Ball", "square": "Box", "triangle": "Traffic sign", "star": "Starfish", "cross": "Drill"}


class OpenImagesWriter(DatasetWriter):
    """Open Images' layout: train/*.jpg, train-annotations-bbox.csv and class-descriptions-boxable.csv; validation and
    test alike.

    Images keep their names if these are 16 hexadecimal digits, else they are numbered. Classes of other datasets get
    ids "/detkit/1", ... Boxes have six digits; crowds are groups.
    """

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits, train, val or test, into a folder.

        Raises:
            ValueError: a split has another name, the datasets have different classes or rotated boxes.
        """
        datasets = list(splits.values())
        categories = datasets[0].categories
        if any(dataset.categories.names != categories.names for dataset in datasets):
            raise ValueError("the splits have different classes; this layout has one list for all of them")
        if any(dataset.rotated for dataset in datasets):
            raise ValueError("Open Images has no rotated boxes; write 'dota' or 'yolo'")
        if strangers := sorted(splits.keys() - SPLITS.keys()):
            raise ValueError(f"Open Images has no split {strangers[0]!r}; it has {', '.join(SPLITS)}")
        first = datasets[0]
        known = first.class_ids if isinstance(first, OpenImagesDataset) else None
        class_ids = known or tuple(f"/detkit/{number}" for number in range(1, len(categories) + 1))
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "class-descriptions-boxable.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(zip(class_ids, categories.names, strict=True))
        numbered = image_names(splits)
        if not all(image_number(name) is not None for names in numbered.values() for name in names):
            numbered = {
                split: [f"{number:04x}{index:012x}" for index in range(len(names))]
                for number, (split, names) in enumerate(numbered.items())
            }
        for split, dataset in splits.items():
            (folder / SPLITS[split]).mkdir(exist_ok=True)
            with (folder / f"{SPLITS[split]}-annotations-bbox.csv").open("w", encoding="ascii") as file:
                file.write(f"{','.join(_HEADER.split())}\n")
                for index, name in enumerate(numbered[split]):
                    write_image(dataset, index, folder / SPLITS[split], name)
                    file.writelines(_rows(dataset, index, name, class_ids))


def _rows(dataset: Dataset, index: int, name: str, class_ids: tuple[str, ...]) -> list[str]:
    target, (height, width) = dataset.target(index), dataset.size(index)
    boxes = np.asarray(target["boxes"], np.float64) / (width, height, width, height)
    crowds, said = target["crowd"].tolist(), flags(dataset, index)
    rows = []
    for (x0, y0, x1, y1), label, crowd, (_, truncated, occluded) in zip(
        boxes.tolist(), target["labels"].tolist(), crowds, said, strict=True
    ):
        sides = ",".join(f"{value:.6f}" for value in (x0, x1, y0, y1))
        marks = f"{int(occluded)},{int(truncated)},{int(crowd)},0,0"
        rows.append(f"{name},xclick,{class_ids[label]},1,{sides},{marks}\n")
    return rows


def make_openimages(out: Path, *, images: int = 12, val_images: int = 4, size: int = 96, seed: int = 0) -> None:
    """Write a tiny dataset of shapes, which are called balls, boxes, ...; see `make_shapes` and `OpenImagesWriter`."""
    write_practice(
        OpenImagesWriter(), out, images=images, val_images=val_images, size=size, seed=seed, names=_PRACTICE_NAMES
    )
