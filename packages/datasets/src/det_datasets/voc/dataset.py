"""PASCAL VOC's annotations."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from hotcoco import mask as rle

from det_datasets.annotated import AnnotatedImages
from det_datasets.cache import Annotations, cached
from det_datasets.columns import MARKS, ColumnsBuilder
from det_datasets.errors import Errors
from det_datasets.headers import read_sizes
from det_datasets.pixels import PixelLabels, read_values
from det_datasets.voc import layout
from det_datasets.voc.classes import BACKGROUND, NAMES, read_label_map
from det_datasets.voc.schema import VocAnnotation, VocObject, read_annotation
from detkit.data.stores.store import local_folder
from detkit.structures.categories import Categories
from detkit.structures.semantic_map import SemanticMap

_VOID = 255


class VocDataset(AnnotatedImages):
    """PASCAL VOC's annotations (http://host.robots.ox.ac.uk/pascal/VOC/; Everingham et al., 2010). Images are called
    "000005" or "2008_000002", as their files.

    To download: VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar, VOCtrainval_11-May-2012.tar, which unpack into
    one folder VOCdevkit/. The images are from Flickr, under its terms of use.

    `data=FOLDER` of one year has the splits train, val and test of its ImageSets/Main, or trainval where there is no
    train or val. VOCdevkit has, if a test set with annotations (2007's) is in it, the splits that results are published
    with: "train" is trainval of all years, "val" that test set; else the years' train, val and test.

    Pixels are counted from 1 in the files, the last one included: a box becomes xmin - 1, ymin - 1, xmax, ymax. Objects
    that are difficult are trained with; evaluators neither ask for them nor count them as wrong. Where there is
    SegmentationObject/*.png, of a part of the images, objects have masks.

    Args:
        folder: VOC2007 or the like, or VOCdevkit with such folders.
        split: name of a file in ImageSets/Main: train, val, trainval, test.
        years: the folders in VOCdevkit, ["VOC2007", "VOC2012"]; all by default.
        segmentation: the split is one of ImageSets/Segmentation, in which all images have masks, and pixels have
            labels: the background, then the classes.
        classes: names, where they are not VOC's 20, nor in a file labelmap.txt in the folder.

    Raises:
        ValueError: files are missing or make no sense, or objects are of other classes.
    """

    layout: ClassVar[str] = layout.LAYOUT
    instance_evaluators: ClassVar[Sequence[str]] = ("voc", "diagnosis")

    def __init__(
        self,
        folder: Path,
        split: str = "trainval",
        years: Sequence[str] | None = None,
        segmentation: bool = False,
        classes: Sequence[str] | None = None,
    ) -> None:
        folder = local_folder(folder)
        chosen = layout.choose_years(folder, years)
        label_map = layout.label_map(folder, chosen)
        if classes is None:
            classes = NAMES if label_map is None else read_label_map(label_map)
        categories = Categories(tuple(classes))
        kind = "Segmentation" if segmentation else "Main"
        images = [_Image(year, name) for year in chosen for name in layout.read_list(year, kind, split)]
        unlabelled = split.startswith("test") and not any(image.annotation.is_file() for image in images)
        watched = [image.image if unlabelled else image.annotation for image in images]
        outlines = [image.objects for image in images if not unlabelled and image.objects.is_file()]
        found = cached(
            partial(_read, folder, images, categories, labelled=not unlabelled, outlines=set(outlines)),
            reader="voc 1",
            watched=[*watched, *outlines],
            arguments={"split": split, "segmentation": segmentation, "classes": list(classes)},
        )
        super().__init__(
            source=folder,
            images=folder,
            columns=found.columns,
            categories=categories,
            problems=found.problems,
            pixels=_Pixels(folder, categories) if segmentation else None,
        )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        return layout.find_splits(path)


@dataclass(frozen=True)
class _Image:
    """The files of an image."""

    year: Path
    name: str

    @property
    def image(self) -> Path:
        return self.year / "JPEGImages" / f"{self.name}.jpg"

    @property
    def annotation(self) -> Path:
        return self.year / "Annotations" / f"{self.name}.xml"

    @property
    def objects(self) -> Path:
        return self.year / "SegmentationObject" / f"{self.name}.png"


class _Pixels(PixelLabels):
    """Labels of pixels in SegmentationClass, beside the folder of images."""

    def __init__(self, folder: Path, categories: Categories) -> None:
        super().__init__(folder, Categories((BACKGROUND, *categories.names), ids=tuple(range(len(categories) + 1))))

    def read(self, name: str, size: tuple[int, int]) -> SemanticMap:
        """The labels (H, W) of the image JPEGImages/NAME.jpg, below the folder."""
        path = Path(name)
        return super().read(str(path.parent.with_name("SegmentationClass") / path.name), size)


def _read(
    folder: Path, images: Sequence[_Image], categories: Categories, *, labelled: bool, outlines: set[Path]
) -> Annotations:
    problems: Counter[str] = Counter()
    repeated = [name for name, count in Counter(image.name for image in images).items() if count > 1]
    if repeated:
        raise ValueError(f"{folder}: image {repeated[0]} is listed twice; each must be listed once")
    builder = ColumnsBuilder()
    errors = Errors()
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as threads:
        found = [threads.submit(_read_image, image, labelled, outlines) for image in images]
        for image, file in zip(images, found, strict=True):
            with errors.noted():
                size, objects, codes = file.result()
                builder.image(image.name, image.image.relative_to(folder).as_posix(), *size)
                for number, entry in enumerate(objects):
                    _add(builder, image, entry, size, categories, codes.get(number + 1, b""), problems)
                if strangers := sum(number > len(objects) for number in codes):
                    problems["masks belong to no object: left out"] += strangers
    errors.raise_all()
    if not labelled:
        problems["images have no annotations, as those of a test set"] = len(images)
    return Annotations(builder.build(), categories, problems)


def _read_image(
    image: _Image, labelled: bool, outlines: set[Path]
) -> tuple[tuple[int, int], list[VocObject], dict[int, bytes]]:
    """Its size (height, width), its objects, and the compressed masks of these by their number, from 1."""
    found = read_annotation(image.annotation) if labelled else VocAnnotation(None, [])
    height, width = read_sizes([image.image])[0].tolist() if found.size is None else found.size
    if image.objects not in outlines:
        return (height, width), found.objects, {}
    values = read_values(image.objects, (height, width), ("L", "P"), "numbers of objects are palette indices (L, P)")
    numbers = np.setdiff1d(np.unique(values), (0, _VOID))
    masks = np.asfortranarray(values[:, :, None] == numbers).astype(np.uint8, order="F")
    codes: list[dict[str, Any]] = rle.encode(masks) if len(numbers) else []  # type: ignore[assignment]
    counts = [code["counts"] for code in codes]
    return (height, width), found.objects, dict(zip(numbers.tolist(), counts, strict=True))


def _add(
    builder: ColumnsBuilder,
    image: _Image,
    entry: VocObject,
    size: tuple[int, int],
    categories: Categories,
    counts: bytes,
    problems: Counter[str],
) -> None:
    label = categories.label_of_name(entry.name)
    if label is None:
        raise ValueError(
            f"{image.annotation} has an object of class {entry.name!r}, which is none of "
            f"{', '.join(categories.names)}; list the classes of other data as "
            "`classes`, or as lines `name:r,g,b::` of a file labelmap.txt"
        )
    left, top, right, bottom = entry.box
    box = (max(left - 1, 0.0), max(top - 1, 0.0), min(right, float(size[1])), min(bottom, float(size[0])))
    if box != (left - 1, top - 1, right, bottom):
        problems["boxes reach over the border: cut there"] += 1
    if box[2] <= box[0] or box[3] <= box[1]:
        problems["objects have an empty box: left out"] += 1
        return
    marks = MARKS["truncated"] * entry.truncated + MARKS["occluded"] * entry.occluded
    builder.object(label, box, difficult=entry.difficult, counts=counts, marks=marks)
