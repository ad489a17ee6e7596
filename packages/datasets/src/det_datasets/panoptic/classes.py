"""The classes of panoptic data: of things, which are counted, and of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detkit.structures.categories import Categories

THINGS = "things"
"""What the class of pixels is called that stands for all things, where there is such a class."""


@dataclass(frozen=True)
class PanopticClasses:
    """The labels of things and of pixels, and how the ids of a dataset become such labels.

    things: the classes of things; pixels: those of pixels. pixel_labels: for each class of things, then for each of
    stuff, its label in `pixels`. stuff: the labels in `pixels` that are stuff.
    """

    things: Categories
    pixels: Categories
    pixel_labels: tuple[int, ...]

    @classmethod
    def of(cls, things: Categories, stuff: Categories, *, together: bool) -> PanopticClasses:
        """Classes of pixels from those of things and stuff, whose ids must differ.

        Args:
            things: the classes of things.
            stuff: the classes of stuff.
            together: things are one class of pixels, the first, instead of a class each.
        """
        if together:
            taken = (*things.ids, *stuff.ids)
            free = 0 if 0 not in taken else max(taken) + 1
            groups = ("", *stuff.supercategories) if stuff.supercategories else ()
            pixels = Categories((THINGS, *stuff.names), (free, *stuff.ids), groups)
            return cls(things, pixels, (*(0 for _ in things.ids), *range(1, len(pixels))))
        both = [*zip(things.ids, things.names, _groups(things), strict=True)]
        both = sorted([*both, *zip(stuff.ids, stuff.names, _groups(stuff), strict=True)])
        groups = tuple(group for _, _, group in both)
        pixels = Categories(
            tuple(name for _, name, _ in both), tuple(id for id, _, _ in both), groups if any(groups) else ()
        )
        return cls(things, pixels, tuple(pixels.label_of_id(id) for id in (*things.ids, *stuff.ids)))

    @property
    def everything(self) -> Categories:
        """The classes of segments: those of things, then those of stuff."""
        stuff = self.stuff
        return Categories(
            names=(*self.things.names, *(self.pixels.names[label] for label in stuff)),
            ids=(*self.things.ids, *(self.pixels.ids[label] for label in stuff)),
        )

    @property
    def stuff(self) -> tuple[int, ...]:
        """The labels in `pixels` that are stuff."""
        return self.pixel_labels[len(self.things) :]

    def label_of_id(self, id: int) -> tuple[bool, int]:
        """Whether a dataset's id is one of a thing, and its label in `things` or `pixels`; KeyError if there is no such
        class."""
        try:
            return True, self.things.label_of_id(id)
        except KeyError:
            label = self.pixels.label_of_id(id)
            if label not in self.stuff:
                raise
            return False, label


def stuff_labels(things: Categories, pixels: Categories) -> Sequence[int]:
    """Which classes of pixels are stuff: those that are neither things nor stand for all of them."""
    names = {*things.names, THINGS}
    return [label for label, name in enumerate(pixels.names) if name not in names]


def category_entries(
    things: Categories, pixels: Categories
) -> tuple[list[dict[str, Any]], dict[tuple[bool, int], int]]:
    """The `categories` of a panoptic file, and the id of each class of things (True, label) and of stuff (False, label
    in `pixels`). Ids are those given, unless things and stuff share some: stuff then gets others."""
    stuff = stuff_labels(things, pixels)
    ids = [pixels.ids[label] for label in stuff]
    if set(ids) & set(things.ids):
        ids = [max(things.ids) + number for number in range(1, len(stuff) + 1)]
    kinds = [(True, label) for label in range(len(things))] + [(False, label) for label in stuff]
    entries = []
    for (thing, label), id in zip(kinds, (*things.ids, *ids), strict=True):
        known = things if thing else pixels
        group = {"supercategory": known.supercategories[label]} if known.supercategories else {}
        entries.append({"id": id, "name": known.names[label], **group, "isthing": int(thing)})
    return entries, dict(zip(kinds, (*things.ids, *ids), strict=True))


def _groups(categories: Categories) -> tuple[str, ...]:
    return categories.supercategories or ("",) * len(categories)
