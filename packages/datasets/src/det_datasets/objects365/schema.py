"""The parts of an Objects365 file that are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from det_datasets.coco.schema import CocoFile

Doubt = Literal["fake", "reflected"]

MISSING = (
    "patch6/objects365_v1_00320532.jpg",
    "patch6/objects365_v1_00320534.jpg",
    "patch16/objects365_v2_00908726.jpg",
)
"""The ends of the names of images that the annotations of v2 list and its archives do not hold."""

NOT_THERE = "images are in none of the archives: left out"
"""How a reader counts them."""


class _Flags(msgspec.Struct, gc=False):
    """What of an annotation says whether it is read."""

    image_id: int = -1
    isfake: int = 0
    isreflected: int = 0


class Objects365File(CocoFile):
    """An Objects365 file, read as one of COCO.

    Args:
        path: the JSON file.
        parts: how many of the last parts of images' names are kept; 0 for all.
        without: kinds of objects that are left out.

    Raises:
        ValueError: see `CocoFile`.
    """

    def __init__(self, path: Path, parts: int = 0, without: Collection[Doubt] = ()) -> None:
        super().__init__(path)
        there = [image for image in self.images if not image.file_name.endswith(MISSING)]
        self.missing = len(self.images) - len(there)
        if self.missing or without:
            self._leave_out({image.id for image in self.images} - {image.id for image in there}, without)
        self.images = there
        for image in there:
            image.file_name = last_parts(image.file_name, parts)

    def _leave_out(self, images: Collection[int], without: Collection[Doubt]) -> None:
        """Drop annotations of images, and of kinds of objects, before any is read."""
        decode = msgspec.json.Decoder(_Flags).decode
        kept = []
        for raw in self._annotations:
            try:
                flags = decode(raw)
            except msgspec.DecodeError:
                kept.append(raw)  # reading it will say what is wrong
                continue
            if flags.image_id not in images and not is_any(without, flags.isfake, flags.isreflected):
                kept.append(raw)
        self._annotations = kept


def is_any(without: Collection[Doubt], fake: int, reflected: int) -> bool:
    """Whether an object is of one of these kinds."""
    return bool((fake and "fake" in without) or (reflected and "reflected" in without))


def is_left_out(without: Collection[Doubt], entry: Mapping[str, Any]) -> bool:
    """Whether an entry of `annotations` is of one of these kinds."""
    return is_any(without, entry.get("isfake", 0), entry.get("isreflected", 0))


def last_parts(name: str, parts: int) -> str:
    """images/v1/patch8/0.jpg -> patch8/0.jpg, of two parts; all of it, of 0."""
    return "/".join(name.split("/")[-parts:])
