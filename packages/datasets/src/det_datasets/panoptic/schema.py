"""COCO's panoptic format: a JSON file of segments beside pictures whose colours are their ids."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from det_datasets.coco.schema import read_bytes
from det_datasets.panoptic.classes import PanopticClasses
from detkit.structures.categories import Categories


class PanopticCategory(msgspec.Struct):
    """An entry of `categories`."""

    id: int
    name: str
    isthing: int
    supercategory: str | None = None


class PanopticImage(msgspec.Struct):
    """An entry of `images`."""

    id: int | str
    file_name: str
    height: int
    width: int


class SegmentEntry(msgspec.Struct, gc=False):
    """An entry of `segments_info`."""

    id: int
    category_id: int
    bbox: list[float]
    area: int
    iscrowd: int = 0


class PanopticAnnotation(msgspec.Struct):
    """An entry of `annotations`: what an image consists of, and the picture that says where."""

    image_id: int | str
    file_name: str
    segments_info: list[SegmentEntry]


class _Classes(msgspec.Struct):
    categories: list[PanopticCategory]


class PanopticFile(_Classes):
    """A panoptic file. Files for test sets have no annotations."""

    images: list[PanopticImage]
    annotations: list[PanopticAnnotation] = []


_Kind = TypeVar("_Kind", bound=_Classes)


def read_panoptic(path: Path) -> PanopticFile:
    """Read a panoptic JSON file; ValueError if it is missing or is none, naming the place."""
    return _read(path, PanopticFile)


def read_classes(path: Path) -> list[PanopticCategory]:
    """The categories of a panoptic JSON file, without looking at its segments."""
    return _read(path, _Classes).categories


def _read(path: Path, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(read_bytes(path), type=kind)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{path} is not a COCO panoptic file: {error}; 'images', 'annotations' with 'segments_info', and "
            "'categories' with 'isthing' are needed"
        ) from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def classes_of(entries: list[PanopticCategory], *, together: bool) -> PanopticClasses:
    """The classes that a file defines; see `PanopticClasses.of`. ValueError if ids or names repeat."""
    things, stuff = (
        Categories.from_coco([msgspec.structs.asdict(entry) for entry in entries if bool(entry.isthing) is thing])
        for thing in (True, False)
    )
    Categories(names=(*things.names, *stuff.names), ids=(*things.ids, *stuff.ids))  # all of them unique
    return PanopticClasses.of(things, stuff, together=together)
