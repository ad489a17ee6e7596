"""Write Cityscapes' layout, and a tiny dataset in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image

from det_datasets.cityscapes.labels import BY_NAME, LABELS, WHOLE, class_ids
from det_datasets.cityscapes.maps import GROUP, Outline, Outlines
from det_datasets.panoptic.merged import require_segments, segments_of
from det_datasets.practice import write_practice
from detkit.interfaces import Dataset, DatasetWriter

_NAMES = {
    "circle": "person",
    "square": "car",
    "triangle": "truck",
    "star": "bicycle",
    "cross": "rider",
    "plain": "road",
    "stripes": "building",
    "noise": "vegetation",
}
"""What shapes and grounds become in a practice dataset."""


class CityscapesWriter(DatasetWriter):
    """Cityscapes' layout: leftImg8bit/train/CITY/*_leftImg8bit.png, and gtFine/train/CITY/ with *_gtFine_polygons.json,
    *_instanceIds.png, *_labelIds.png and *_labelTrainIds.png; val and test alike. A dataset needs `panoptic_map`, or
    masks of objects and labels of pixels; its classes must be named as in Cityscapes.

    The maps are exact; polygons are the outer borders of segments, through the centres of pixels.

    Args:
        city: what images are said to be of, unless they are called so already.
    """

    def __init__(self, *, city: str = "detkit") -> None:
        self.city = city

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits into a folder.

        Raises:
            ValueError: a dataset has no segments, or classes that Cityscapes does not have.
        """
        for name, dataset in splits.items():
            require_segments(dataset, "Cityscapes", BY_NAME)
            for index in range(len(dataset)):
                self._write(dataset, index, folder, name)

    def _write(self, dataset: Dataset, index: int, folder: Path, split: str) -> None:
        image_id = dataset.image_id(index)
        parts = str(image_id).rsplit("_", 2)
        city, name = (parts[0], str(image_id)) if len(parts) == 3 else (self.city, f"{self.city}_000000_{index:06}")
        images, truth = folder / "leftImg8bit" / split / city, folder / "gtFine" / split / city
        images.mkdir(parents=True, exist_ok=True)
        truth.mkdir(parents=True, exist_ok=True)
        pixels = dataset[index].image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(images / f"{name}_leftImg8bit.png")
        values, outlines = _map(dataset, index)
        (truth / f"{name}_gtFine_polygons.json").write_bytes(msgspec.json.encode(outlines))
        Image.fromarray(values.astype(np.uint16)).save(truth / f"{name}_gtFine_instanceIds.png")
        ids = class_ids()[values]
        train_ids = np.array([label.train_id for label in sorted(LABELS, key=lambda label: label.id)[1:]], np.uint8)
        Image.fromarray(ids.astype(np.uint8)).save(truth / f"{name}_gtFine_labelIds.png")
        Image.fromarray(train_ids[ids]).save(truth / f"{name}_gtFine_labelTrainIds.png")


def _map(dataset: Dataset, index: int) -> tuple[NDArray[np.int32], Outlines]:
    """The map of instances of an image, and polygons: one for each part of stuff and of groups, so that larger ones
    come first, then one for each object."""
    ids, segments = segments_of(dataset, index)
    values, counts = np.zeros_like(ids), Counter[str]()
    ground: list[tuple[float, Outline]] = []
    objects: list[Outline] = []
    for segment in segments:
        name = segment["name"]
        label, mask = BY_NAME[name], ids == segment["id"]
        borders = outer_borders(mask)
        if label.has_instances and not segment["iscrowd"]:
            values[mask] = label.id * WHOLE + counts[name]
            counts[name] += 1
            objects.append(Outline(name, _joined(borders)))
        else:
            values[mask] = label.id
            called = name + GROUP if label.has_instances else name
            ground += [(border.area, Outline(called, _points(border))) for border in borders]
    height, width = ids.shape
    ground.sort(key=lambda entry: -entry[0])
    return values, Outlines(height, width, [outline for _, outline in ground] + objects)


def outer_borders(mask: NDArray[np.bool_]) -> list[shapely.Polygon]:
    """Polygons through the outermost pixels of the parts of a mask (H, W), in coordinates of pixels' corners; parts of
    one pixel's width are left out, unless there are no others."""
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (rows, starts), (_, ends) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    whole = shapely.union_all(shapely.box(starts, rows, ends, rows + 1))
    inner = whole.buffer(-0.5, join_style="mitre")  # from the corners of pixels to their centres
    if inner.is_empty:
        inner = whole
    return [shapely.Polygon(part.exterior) for part in getattr(inner, "geoms", [inner])]


def _points(border: shapely.Polygon) -> list[tuple[float, float]]:
    return [(float(x - 0.5), float(y - 0.5)) for x, y in border.exterior.coords]


def _joined(borders: list[shapely.Polygon]) -> list[tuple[float, float]]:
    """One polygon of several, joined by lines."""
    rings = [_points(border) for border in borders]
    return [point for ring in rings for point in ring] + [ring[0] for ring in rings[-2::-1]]


def make_cityscapes(out: Path, *, images: int = 12, val_images: int = 4, size: int = 96, seed: int = 0) -> None:
    """Write a tiny dataset of shapes on textured ground, which are called persons, cars, roads, ..."""
    writer = CityscapesWriter()
    write_practice(writer, out, images=images, val_images=val_images, size=size, seed=seed, names=_NAMES, semantic=True)
