"""Cityscapes' fine annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from det_datasets.cache import Annotations, cached
from det_datasets.cityscapes.labels import BY_ID, LABELS, VALUES, WHOLE, class_ids, classes
from det_datasets.cityscapes.maps import draw_map, read_map, read_outlines, regions
from det_datasets.columns import ColumnsBuilder
from det_datasets.errors import Errors
from det_datasets.headers import read_sizes
from det_datasets.panoptic.schema import read_panoptic
from det_datasets.panoptic.segmented import SegmentedImages
from detkit.data.stores.store import local_folder

_IMAGE = "_leftImg8bit.png"
_THREADS = 4  # decoding releases Python's lock
_Region = tuple[int, int, Sequence[float]]  # the value in the map, the area, the box xyxy
_Regions = tuple[tuple[int, int], list[_Region]]  # the size of an image (height, width), and what is in it


class CityscapesDataset(SegmentedImages):
    """Cityscapes' fine annotations (https://www.cityscapes-dataset.com; Cordts et al., 2016): objects with masks and
    groups of them (crowds), labels of pixels, panoptic segments. Images are called "aachen_000000_000019".

    To download, after registration, for non-commercial use alone (see the licence there): leftImg8bit_trainvaltest.zip
    and gtFine_trainvaltest.zip.

    The map of an image's instances is *_gtFine_instanceIds.png, else it is drawn from *_gtFine_polygons.json as
    Cityscapes' scripts draw it, later polygons in front; both give the same. Boxes are those of visible pixels. To know
    them all maps are read the first time, unless `gtFine/cityscapes_panoptic_SPLIT.json`, which Cityscapes' scripts
    write, tells them; see `det_datasets.cache`. Classes that Cityscapes does not evaluate have no labels.

    Args:
        folder: with leftImg8bit/ and gtFine/.
        split: train, val or test. The annotations of test are dummies.
        things_together: pixels of things have one class, "things", with label 0, as Panoptic FPN needs it; else labels
            of pixels are Cityscapes' train ids.

    Raises:
        ValueError: there are no images, or annotations of some are missing or make no sense.
    """

    layout: ClassVar[str] = (
        "leftImg8bit/train/CITY/*_leftImg8bit.png with gtFine/train/CITY/*_gtFine_instanceIds.png or "
        "*_gtFine_polygons.json; val and test alike"
    )

    instance_evaluators: ClassVar[Sequence[str]] = ("coco", "cityscapes-instances", "diagnosis")

    @property
    def evaluators(self) -> Sequence[str]:
        assert self.semantic_categories is not None
        own = "semantic" if "things" in self.semantic_categories.names else "cityscapes-semantic"
        return (*self.instance_evaluators, own, "panoptic")

    def __init__(self, folder: Path, split: str = "train", things_together: bool = False) -> None:
        folder = local_folder(folder)
        images, self._truth = folder / "leftImg8bit" / split, folder / "gtFine" / split
        paths = sorted(images.glob(f"*/*{_IMAGE}"), key=lambda path: path.name)
        if not paths:
            raise ValueError(f"there is no image {images}/CITY/*{_IMAGE}")
        self._names = [path.name.removesuffix(_IMAGE) for path in paths]
        self._cities = [path.parent.name for path in paths]
        evaluated = [label.id for label in LABELS if label.evaluated]
        values = np.arange(VALUES, dtype=np.int32)
        self._kept = np.where(np.isin(class_ids(), evaluated), values, 0)
        summary = self._truth.parent / f"cityscapes_panoptic_{split}.json"
        truths = [file for index in range(len(paths)) for file in self._files(index) if file.is_file()]
        found = cached(
            partial(self._read, summary),
            reader="cityscapes 1",
            sources=[summary] if summary.is_file() else [],
            watched=[*paths, *truths],
            slow=True,
        )
        super().__init__(
            source=self._truth,
            images=images,
            columns=found.columns,
            classes=classes(together=things_together),
            problems=found.problems,
        )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        names = [name for name in ("train", "val", "test") if (path / "leftImg8bit" / name).is_dir()]
        found = {name: {"folder": path, "split": name} for name in names if (path / "gtFine" / name).is_dir()}
        return found or None

    def read_ids(self, index: int) -> NDArray[np.int32]:
        return self._kept[self._map(index, self.size(index))]

    def instance_map(self, image_id: str) -> Tensor:
        """The values (H, W) int32 of *_gtFine_instanceIds.png, also of classes that are not evaluated."""
        index = self._index(image_id)
        return torch.from_numpy(self._map(index, self.size(index)))

    def _map(self, index: int, size: tuple[int, int]) -> NDArray[np.int32]:
        picture, outlines = self._files(index)
        if picture.is_file():
            return read_map(picture, size)
        try:
            return draw_map(read_outlines(outlines))
        except ValueError as error:
            raise ValueError(f"{outlines}: {error}") from None

    def _files(self, index: int) -> tuple[Path, Path]:
        """The map of an image's instances, and the polygons."""
        start = f"{self._names[index]}_gtFine_"
        city = self._truth / self._cities[index]
        return city / f"{start}instanceIds.png", city / f"{start}polygons.json"

    def _read(self, summary: Path) -> Annotations:
        """All segments as objects."""
        known, segments = classes(together=False).everything, ColumnsBuilder()
        found = _summarized(summary, self._names) if summary.is_file() else None
        for name, city, ((height, width), parts) in zip(
            self._names, self._cities, self._scanned() if found is None else found, strict=True
        ):
            segments.image(name, f"{city}/{name}{_IMAGE}", height, width)
            for value, area, box in parts:
                label = BY_ID[value // WHOLE if value >= WHOLE else value]
                if label.evaluated:
                    crowd = label.has_instances and value < WHOLE
                    segments.object(known.label_of_id(label.id), box, id=value, area=area, crowd=crowd)
        return Annotations(segments.build(), known, Counter())

    def _scanned(self) -> list[_Regions]:
        """The size and the regions of every image, from its map."""
        found: list[_Regions] = []
        errors = Errors()
        with ThreadPoolExecutor(_THREADS) as pool:
            for image in [pool.submit(self._scan, index) for index in range(len(self._names))]:
                with errors.noted():
                    found.append(image.result())
        errors.raise_all()
        return found

    def _scan(self, index: int) -> _Regions:
        picture, outlines = self._files(index)
        if picture.is_file():
            ((height, width),) = read_sizes([picture]).tolist()
            size = height, width
        elif outlines.is_file():
            file = read_outlines(outlines)
            size = file.imgHeight, file.imgWidth
        else:
            raise ValueError(f"there is neither {picture} nor {outlines.name}; download gtFine_trainvaltest.zip")
        columns = regions(self._map(index, size))
        return size, list(zip(*(column.tolist() for column in columns), strict=True))


def _summarized(path: Path, names: Sequence[str]) -> list[_Regions] | None:
    """The size and the regions of images, from a panoptic file; None if it does not have them all."""
    file = read_panoptic(path)
    sizes = {image.id: (image.height, image.width) for image in file.images}
    infos = {annotation.image_id: annotation.segments_info for annotation in file.annotations}
    if not (sizes.keys() >= set(names) and infos.keys() >= set(names)):
        return None
    found = []
    for name in names:
        parts: list[_Region] = []
        for entry in sorted(infos[name], key=lambda entry: entry.id):
            left, top, width, height = entry.bbox
            parts.append((entry.id, entry.area, (left, top, left + width, top + height)))
        found.append((sizes[name], parts))
    return found
