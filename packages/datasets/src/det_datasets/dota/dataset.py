"""DOTA's annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from det_datasets.annotated import AnnotatedImages
from det_datasets.arrays import count_problem, make_columns
from det_datasets.cache import Annotations, cached
from det_datasets.dota.labels import NAMES, VERSIONS, DotaObject, choose_names, read_labels
from det_datasets.errors import Errors
from det_datasets.headers import read_sizes
from det_datasets.quads import rotated_boxes
from detkit.data.image import IMAGE_SUFFIXES
from detkit.data.stores.store import local_folder
from detkit.structures.categories import Categories

SPLITS = ("train", "val", "test")
CLASSES = "dota-classes.txt"
"""Beside the splits of data that is not DOTA's: a class in each line."""


class DotaDataset(AnnotatedImages):
    """DOTA (https://captain-whu.github.io/DOTA; Xia et al., 2018): objects in aerial images by their four corners,
    which become rotated boxes, the least around them, the longer side as the width, turned from -90 to below 90
    degrees. Images are called "P0003", as their files.

    To download: images and labelTxt of train and val, for academic use alone (see the licence there; images are also
    under Google Earth's terms). Images are up to 20,000 pixels wide, and more in version 2.0: they are usually cut into
    tiles first, by `detkit data tile` or DOTA's devkit, which writes this layout too. Images of test have no labels.

    The classes are those of version 1.0, or of 1.5 or 2.0 if its classes occur in any split.

    Args:
        folder: with train/, val/, ...
        split: name of such a folder.
        version: "1.0", "1.5" or "2.0", to have its classes.
        classes: names, in data that is not DOTA's; `splits` finds them in dota-classes.txt.
        labels: name of the folder of labels beside images/; labelTxt by default, else the last labelTxt-*.

    Raises:
        ValueError: a file is missing, or a line makes no sense or is of another class, which the message names.
    """

    layout: ClassVar[str] = "train/images/*.png with train/labelTxt*/*.txt; val alike, test without labels"

    def __init__(
        self,
        folder: Path,
        split: str = "train",
        version: str | None = None,
        classes: Sequence[str] | None = None,
        labels: str | None = None,
    ) -> None:
        if version not in (None, *VERSIONS):
            raise ValueError(f"version is {version!r}; there are {', '.join(VERSIONS)}")
        images = local_folder(folder) / split / "images"
        names = sorted(path.name for path in images.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if not names:
            raise ValueError(f"there are no images in {images}")
        texts = _labels(Path(folder) / split, labels)
        if texts is None and split != "test":
            raise ValueError(f"there is no folder {images.parent / (labels or 'labelTxt')} with labels of the images")
        places = [_labels(Path(folder) / name, labels) for name in SPLITS]
        everywhere = sorted(path for place in places if place is not None for path in place.glob("*.txt"))
        fixed = tuple(classes or (NAMES[: VERSIONS[version]] if version else ()))
        found = cached(
            partial(_read, images, names, texts, fixed, everywhere),
            reader="dota 1",
            watched=[*(images / name for name in names), *everywhere],
            arguments={"split": split, "classes": list(fixed), "labels": labels},
        )
        super().__init__(
            source=images.parent,
            images=images,
            columns=found.columns,
            categories=found.categories,
            problems=found.problems,
        )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        there = [name for name in SPLITS if (path / name / "images").is_dir()]
        labelled = [name for name in there if _labels(path / name, None) is not None]
        names = [name for name in there if name in labelled or name == "test"]
        own = path / CLASSES
        classes = {"classes": own.read_text(encoding="utf-8").split()} if labelled and own.is_file() else {}
        return {name: {"folder": path, "split": name, **classes} for name in names} if labelled else None


def _labels(folder: Path, name: str | None) -> Path | None:
    """The folder of labels of a split, if it is there."""
    if name is not None:
        return folder / name if (folder / name).is_dir() else None
    usual = folder / "labelTxt"
    return usual if usual.is_dir() else max((path for path in folder.glob("labelTxt*") if path.is_dir()), default=None)


def _read(
    images: Path, names: list[str], texts: Path | None, fixed: tuple[str, ...], everywhere: list[Path]
) -> Annotations:
    problems: Counter[str] = Counter()
    categories = Categories(fixed or choose_names(everywhere))
    sizes = read_sizes([images / name for name in names])
    ids = [Path(name).stem for name in names]
    for repeated in [image_id for image_id, count in Counter(ids).items() if count > 1][:1]:
        raise ValueError(f"{images} has several images called {repeated}")
    objects: list[DotaObject] = []
    positions, labels = [], []
    errors = Errors()
    for position, image_id in enumerate(ids if texts is not None else ()):
        assert texts is not None
        path = texts / f"{image_id}.txt"
        with errors.noted():
            for entry in read_labels(path, problems):
                label = categories.label_of_name(entry.name)
                if label is None:
                    raise ValueError(
                        f"{path} has an object of class {entry.name!r}, which is none of "
                        f"{', '.join(categories.names)}; list the classes of other data as `classes`"
                    )
                objects.append(entry)
                positions.append(position)
                labels.append(label)
    errors.raise_all()
    if texts is None:
        problems["images have no labels, as those of a test set"] = len(ids)
    quads = np.array([entry.corners for entry in objects], np.float64).reshape(-1, 4, 2)
    boxes = rotated_boxes(quads)
    kept = (boxes[:, 2:4].astype(np.float32) > 0).all(axis=1)
    count_problem(problems, "objects have an empty box: left out", (~kept).sum())
    columns = make_columns(
        image_ids=ids,
        names=names,
        sizes=sizes,
        images=np.array(positions, np.int64)[kept],
        labels=np.array(labels, np.int64)[kept],
        boxes=boxes[kept],
        difficult=np.array([entry.difficult for entry in objects], bool)[kept],
    )
    return Annotations(columns, categories, problems)
