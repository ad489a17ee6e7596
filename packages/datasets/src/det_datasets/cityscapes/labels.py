"""The classes of Cityscapes, as its `labels.py` has them."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from det_datasets.panoptic.classes import PanopticClasses
from detkit.structures.batch import UNLABELLED
from detkit.structures.categories import Categories


@dataclass(frozen=True)
class Label:
    """A class: its id in files, the id that models train with (255 for none), its group, whether its objects are told
    apart, and whether it is evaluated."""

    id: int
    name: str
    group: str
    train_id: int
    has_instances: bool
    evaluated: bool


_BY_GROUP = {  # those that are not evaluated are in brackets
    "void": "(0 unlabeled), (1 ego vehicle), (2 rectification border), (3 out of roi), (4 static), (5 dynamic), "
    "(6 ground)",
    "flat": "7 road, 8 sidewalk, (9 parking), (10 rail track)",
    "construction": "11 building, 12 wall, 13 fence, (14 guard rail), (15 bridge), (16 tunnel)",
    "object": "17 pole, (18 polegroup), 19 traffic light, 20 traffic sign",
    "nature": "21 vegetation, 22 terrain",
    "sky": "23 sky",
    "human": "24 person, 25 rider",
    "vehicle": "26 car, 27 truck, 28 bus, (29 caravan), (30 trailer), 31 train, 32 motorcycle, 33 bicycle, "
    "(-1 license plate)",
}


def _labels() -> list[Label]:
    labels: list[Label] = []
    for group, entries in _BY_GROUP.items():
        for entry in entries.split(", "):
            number, name = entry.strip("()").split(" ", 1)
            evaluated, id = not entry.startswith("("), int(number)
            train_id = sum(label.evaluated for label in labels) if evaluated else min(id, 0) or UNLABELLED
            whole = id >= 24
            labels.append(Label(id, name, group, train_id if id >= 0 else -1, whole, evaluated))
    return labels


LABELS = tuple(_labels())
BY_NAME = MappingProxyType({label.name: label for label in LABELS})
BY_ID = MappingProxyType({label.id: label for label in LABELS})

WHOLE = 1000
"""In maps of instances, an object is its class's id times this plus a number; smaller values are ids of classes: of
stuff, and of groups of objects that are not told apart."""

MEAN_AREAS = MappingProxyType(
    {
        "bicycle": 4672.3249222261,
        "bus": 35732.1511111111,
        "car": 12794.0202738185,
        "motorcycle": 6298.7200839748,
        "person": 3462.4756337644,
        "rider": 3930.4788056518,
        "train": 67583.7075812274,
        "truck": 27855.1264367816,
    }
)
"""The mean area of an object of each class in pixels, by which the instance-weighted IoU weighs."""


def classes(*, together: bool) -> PanopticClasses:
    """The 8 classes of things and the 19 of pixels, in the order of their train ids; ids are those of Cityscapes.

    Args:
        together: things are one class of pixels, the first, instead of a class each.
    """
    things, stuff = (
        Categories(
            names=tuple(label.name for label in found),
            ids=tuple(label.id for label in found),
            supercategories=tuple(label.group for label in found),
        )
        for found in (
            [label for label in LABELS if label.evaluated and label.has_instances],
            [label for label in LABELS if label.evaluated and not label.has_instances],
        )
    )
    return PanopticClasses.of(things, stuff, together=together)


VALUES = 34 * WHOLE
"""Values in maps of instances are smaller."""


def class_ids() -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """(VALUES,) int32: the id of the class that a value in a map of instances stands for."""
    values = np.arange(VALUES, dtype=np.int32)
    return np.where(values < WHOLE, values, values // WHOLE)
