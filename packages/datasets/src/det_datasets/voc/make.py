"""Write PASCAL VOC's layout, and a tiny dataset in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from det_datasets.copies import flags, image_names, write_image
from det_datasets.practice import write_practice
from det_datasets.voc.classes import LABEL_MAP, NAMES, colours, write_label_map
from detkit.data.targets import rasterized
from detkit.interfaces import Dataset, DatasetWriter

_PRACTICE_NAMES = {"circle": "aeroplane", "square": "bottle", "triangle": "cat", "star": "dog", "cross": "person"}
_MOST_OBJECTS = 254
_VOID = 255


class VocWriter(DatasetWriter):
    """PASCAL VOC's layout of a year: Annotations/*.xml, ImageSets/Main/*.txt, JPEGImages/*.jpg, and for datasets with
    masks ImageSets/Segmentation/*.txt, SegmentationObject/*.png and SegmentationClass/*.png.

    Boxes are rounded to whole pixels, as in VOC, of which each has one at least. Crowds become difficult objects, and
    their pixels have no label. Where classes are other than VOC's, labelmap.txt names them.
    """

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits into a folder; where there are train and val, trainval too.

        Raises:
            ValueError: the datasets have different classes, or rotated boxes.
        """
        datasets = list(splits.values())
        names = datasets[0].categories.names
        if any(dataset.categories.names != names for dataset in datasets):
            raise ValueError("the splits have different classes; this layout has one list for all of them")
        if any(dataset.rotated for dataset in datasets):
            raise ValueError("VOC has no rotated boxes; write 'dota' or 'yolo'")
        for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        if not set(names) <= set(NAMES):
            write_label_map(folder / LABEL_MAP, names)
            known = names
        else:
            known = NAMES
        images = image_names(splits, unfit=r"\s")  # lists of images end a name there
        for split, dataset in splits.items():
            for index, name in enumerate(images[split]):
                self._write(dataset, index, folder, name, [known.index(own) for own in names])
        images |= {"trainval": images["train"] + images["val"]} if {"train", "val"} <= images.keys() else {}
        for split, listed in images.items():
            for kind in ("Main", "Segmentation") if (folder / "SegmentationObject").is_dir() else ("Main",):
                (folder / "ImageSets" / kind).mkdir(exist_ok=True)
                (folder / "ImageSets" / kind / f"{split}.txt").write_text("".join(f"{name}\n" for name in listed))

    def _write(self, dataset: Dataset, index: int, folder: Path, name: str, labels: list[int]) -> None:
        """Write one image; `labels` are those that the dataset's labels have in the files."""
        sample = dataset[index]
        height, width = dataset.size(index)
        file = write_image(dataset, index, folder / "JPEGImages", name)
        target = sample.target
        boxes = np.asarray(target["boxes"], np.float64)
        low = np.minimum(np.round(boxes[:, :2]), (width - 1, height - 1))
        pixels = np.concatenate((low + 1, np.maximum(np.round(boxes[:, 2:]), low + 1)), axis=1).astype(int).tolist()
        classes = target["labels"].tolist()
        crowds = target["crowd"].tolist()
        entries = [
            _entry(dataset.categories.names[label], box, *said)
            for label, box, said in zip(classes, pixels, flags(dataset, index), strict=True)
        ]
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation>\n\t<folder>{escape(folder.name)}</folder>\n\t<filename>{escape(file)}</filename>\n"
            f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
            f"\t<segmented>{int(dataset.has_masks)}</segmented>\n{''.join(entries)}</annotation>\n",
            encoding="utf-8",
        )
        if dataset.has_masks:
            self._write_masks(rasterized(sample), crowds, labels, folder, name)

    def _write_masks(
        self, target: Mapping[str, Any], crowds: list[bool], labels: list[int], folder: Path, name: str
    ) -> None:
        masks = target["masks"].numpy() > 0
        if len(masks) > _MOST_OBJECTS:
            raise ValueError(f"image {name} has {len(masks)} masks; a file of this layout holds {_MOST_OBJECTS}")
        objects = np.zeros(masks.shape[1:], np.uint8)
        classes = objects.copy()
        for number, (mask, label, crowd) in enumerate(zip(masks, target["labels"].tolist(), crowds, strict=True), 1):
            objects[mask] = _VOID if crowd else number
            classes[mask] = _VOID if crowd else labels[label] + 1
        for part, values in (("SegmentationObject", objects), ("SegmentationClass", classes)):
            (folder / part).mkdir(exist_ok=True)
            picture = Image.fromarray(values)
            picture.putpalette(colours())
            picture.save(folder / part / f"{name}.png")


def _entry(name: str, box: list[int], difficult: bool, truncated: bool, occluded: bool) -> str:
    sides = "".join(
        f"\t\t\t<{side}>{value}</{side}>\n" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return (
        f"\t<object>\n\t\t<name>{escape(name)}</name>\n\t\t<pose>Unspecified</pose>\n\t\t"
        f"<truncated>{int(truncated)}</truncated>\n\t\t<occluded>{int(occluded)}</occluded>\n"
        f"\t\t<difficult>{int(difficult)}</difficult>\n\t\t<bndbox>\n{sides}\t\t</bndbox>\n\t</object>\n"
    )


def make_voc(out: Path, *, images: int = 12, val_images: int = 4, size: int = 96, seed: int = 0) -> None:
    """Write a tiny dataset of shapes, which are called aeroplanes, bottles, ...; see `make_shapes` and `VocWriter`."""
    write_practice(VocWriter(), out, images=images, val_images=val_images, size=size, seed=seed, names=_PRACTICE_NAMES)
