"""Maps of instances: of every pixel the class, and of things which one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from det_datasets.cityscapes.labels import BY_NAME, LABELS, VALUES, WHOLE, Label
from det_datasets.pixels import read_values

GROUP = "group"  # "cargroup" are cars that are not told apart


class Outline(msgspec.Struct):
    """An entry of `objects`; later ones are in front."""

    label: str
    polygon: list[tuple[float, float]]
    deleted: int | bool = 0


class Outlines(msgspec.Struct):
    """A *_gtFine_polygons.json."""

    imgHeight: int
    imgWidth: int
    objects: list[Outline]


def read_outlines(path: Path) -> Outlines:
    """Read a file of polygons; ValueError if it is missing or none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Outlines)
    except OSError as error:
        raise ValueError(f"cannot read the annotation file {path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not one of Cityscapes' files of polygons: {error}") from None


def read_map(path: Path, size: tuple[int, int]) -> NDArray[np.int32]:
    """The map (H, W) in a *_gtFine_instanceIds.png; ValueError if it is missing or none."""
    values = read_values(path, size, ("I;16", "I", "L"), "ids of instances are 16-bit grey values").astype(np.int32)
    if values.max(initial=0) >= VALUES or values.min(initial=0) < 0:
        raise ValueError(f"{path} has pixels with value {values.max()}; ids of instances are below {VALUES}")
    return values


def draw_map(outlines: Outlines) -> NDArray[np.int32]:
    """The map (H, W) that Cityscapes' scripts draw from polygons: one after the other, objects of each class numbered
    from 0; what is deleted or has a negative id is left out.

    Raises:
        ValueError: there is no such class.
    """
    picture = Image.new("I", (outlines.imgWidth, outlines.imgHeight), 0)
    drawer = ImageDraw.Draw(picture)
    counts: Counter[str] = Counter()
    for outline in outlines.objects:
        if outline.deleted:
            continue
        label, together = label_of(outline.label)
        value = label.id
        if label.has_instances and not together:
            value = label.id * WHOLE + counts[label.name]
            counts[label.name] += 1
        if value >= 0:
            drawer.polygon(outline.polygon, fill=value)
    return np.array(picture, np.int32)


def label_of(name: str) -> tuple[Label, bool]:
    """The class of an outline, and whether it is of a group of objects; ValueError if there is none."""
    together = name not in BY_NAME and name.endswith(GROUP)
    known = name.removesuffix(GROUP) if together else name
    if known not in BY_NAME:
        raise ValueError(f"Cityscapes has no class {name!r}; it has {', '.join(label.name for label in LABELS)}")
    return BY_NAME[known], together


def regions(values: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The values (K,) in a map of them (H, W), their areas (K,) in pixels and their boxes (K, 4) xyxy."""
    height, width = values.shape
    counts = np.bincount(values.ravel())
    found = np.flatnonzero(counts)
    table = np.zeros(len(counts), np.intp)
    table[found] = np.arange(len(found))
    numbers = table[values]
    rows, columns = np.zeros((height, len(found)), bool), np.zeros((width, len(found)), bool)
    rows[np.arange(height)[:, None], numbers] = True
    columns[np.arange(width)[None], numbers] = True
    low = (columns.argmax(axis=0), rows.argmax(axis=0))
    high = (width - columns[::-1].argmax(axis=0), height - rows[::-1].argmax(axis=0))
    return found, counts[found], np.stack((*low, *high), axis=1)
