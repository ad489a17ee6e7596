"""The parts of a COCO file that are read, and reading them with errors that say what is wrong where."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec


class ImageEntry(msgspec.Struct):
    """An entry of `images`."""

    id: int
    file_name: str
    height: int
    width: int


class CategoryEntry(msgspec.Struct):
    """An entry of `categories`."""

    id: int
    name: str
    supercategory: str | None = None
    keypoints: list[str] | None = None
    skeleton: list[tuple[int, int]] | None = None  # indices from 1
    sigmas: list[float] | None = None  # of keypoints; not COCO's, which has them in its code


class AnnotationEntry(msgspec.Struct):
    """An entry of `annotations`. Segmentation and keypoints stay undecoded until they are put into columns, to save
    memory."""

    image_id: int
    category_id: int
    id: int = -1
    bbox: list[float] | None = None
    area: float | None = None
    iscrowd: int = 0
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    keypoints: msgspec.Raw = msgspec.Raw(b"null")


class CocoFile(msgspec.Struct):
    """An instances file. Files for test sets have no annotations."""

    images: list[ImageEntry]
    categories: list[CategoryEntry]
    annotations: list[AnnotationEntry] = []


def read_coco(path: Path) -> CocoFile:
    """Read a COCO instances file.

    Raises:
        ValueError: it is missing, not JSON, not COCO, or holds NaN or infinite numbers; the message names the place.
    """
    data = read_bytes(path)
    try:
        return msgspec.json.decode(data, type=CocoFile)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path} is not a COCO instances file: {error}; {_remedy(data)}") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not JSON: {_first_bad_number(data) or error}") from None


def read_bytes(path: Path) -> bytes:
    """A file's contents; ValueError naming it if that cannot be done."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the annotation file {path}: {error.strerror}") from None


def _remedy(data: bytes) -> str:
    tree = msgspec.json.decode(data)
    if not isinstance(tree, dict):
        return "an object with 'images', 'annotations' and 'categories' is needed (is this a file of results?)"
    return f"it has {', '.join(map(repr, tree)) or 'nothing'}; 'images', 'annotations' and 'categories' are needed"


def _first_bad_number(data: bytes) -> str | None:
    """Python's json module writes NaN and Infinity, which JSON does not have: say which annotation holds one."""
    try:
        tree: Any = json.loads(data)
        annotations = tree["annotations"]
    except (ValueError, KeyError, TypeError):
        return None
    for position, entry in enumerate(annotations):
        for key, value in entry.items():
            if not _finite(value):
                return (
                    f"annotation {entry.get('id', f'number {position}')} of image {entry.get('image_id')} has "
                    f"{key} {value}; correct or remove it"
                )
    return None


def _finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
