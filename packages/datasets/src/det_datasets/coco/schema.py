"""The parts of a COCO file that are read, and reading them with errors that say what is wrong where."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec


class ImageEntry(msgspec.Struct, gc=False):
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
    swaps: list[tuple[int, int]] | None = None  # what is left and right, indices from 1; not COCO's either


class Rle(msgspec.Struct, gc=False):
    """A run-length encoded mask: compressed counts are a string, uncompressed ones a list."""

    size: tuple[int, int]
    counts: str | list[int]


Segmentation = list[list[float]] | Rle | None


class _Annotation(msgspec.Struct, gc=False, kw_only=True):
    image_id: int
    category_id: int
    id: int = -1
    bbox: list[float] | None = None
    area: float | None = None
    iscrowd: int = 0
    ignore: Any = 0  # 0 or 1, or a truth value; COCO's own files have none


class AnnotationEntry(_Annotation, gc=False, kw_only=True):
    """An entry of `annotations`."""

    segmentation: Segmentation = None


class KeypointsEntry(AnnotationEntry, gc=False, kw_only=True):
    """An entry of `annotations` whose keypoints are read too."""

    keypoints: list[float] | None = None


class DoubtfulEntry(_Annotation, gc=False, kw_only=True):
    """An entry whose mask or keypoints are not of their type, so that each of them is looked at by itself."""

    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    keypoints: msgspec.Raw = msgspec.Raw(b"null")


class CocoFile:
    """An instances file: its images and categories, and its annotations as they are written, to be read bit by bit:
    all of them as Python objects would take many times the memory of the file.

    Args:
        path: the JSON file.
        image: type of an entry of `images`, for formats that have other names of files (`file_name` may be a property).
        category: type of an entry of `categories`, for formats that say more of them.

    Raises:
        ValueError: it is missing, not JSON, not COCO, or holds NaN or infinite numbers; the message names the place.
    """

    def __init__(
        self, path: Path, image: type[Any] = ImageEntry, category: type[CategoryEntry] = CategoryEntry
    ) -> None:
        self.path = path
        self._data = read_bytes(path)
        kind = msgspec.defstruct(
            "File",
            [
                ("images", list[image]),  # type: ignore[valid-type]
                ("categories", list[category]),  # type: ignore[valid-type]
                ("annotations", list[msgspec.Raw], msgspec.field(default_factory=list)),  # test sets have none
            ],
        )
        try:
            found: Any = msgspec.json.decode(self._data, type=kind)
        except msgspec.DecodeError as error:
            raise self._explained(error) from None
        self.images: list[Any] = found.images
        self.categories: list[Any] = found.categories
        self._annotations: list[msgspec.Raw] = found.annotations

    def annotations(self, size: int, *, keypoints: bool) -> Iterator[list[Any]]:
        """The annotations, this many at a time, as `AnnotationEntry` or `KeypointsEntry`. Those among which one has a
        mask or keypoints (if they are wanted) of another type come as `DoubtfulEntry`. This can be called once: after
        the last, the text of the file is given up.

        Raises:
            ValueError: something else of an annotation is not of its type.
        """
        decode = msgspec.json.Decoder(KeypointsEntry if keypoints else AnnotationEntry).decode
        for start in range(0, len(self._annotations), size):
            raw = self._annotations[start : start + size]
            found: list[Any]
            try:
                found = [decode(one) for one in raw]
            except msgspec.DecodeError:
                found = [self._doubtful(one, number) for number, one in enumerate(raw, start)]
            yield found
        self._annotations, self._data = [], b""

    def _doubtful(self, raw: msgspec.Raw, number: int) -> DoubtfulEntry:
        try:
            return msgspec.json.decode(raw, type=DoubtfulEntry)
        except msgspec.DecodeError as error:
            raise self._explained(error, f"$.annotations[{number}]") from None

    def _explained(self, error: msgspec.DecodeError, place: str = "$") -> ValueError:
        if not isinstance(error, msgspec.ValidationError):
            why = _first_bad_number(self._data) or error if self._data.strip() else "it is empty"
            return ValueError(f"{self.path} is not JSON: {why}")
        message = str(error)
        if place != "$":
            message = message.replace("`$", f"`{place}", 1) if "`$" in message else f"{message} - at `{place}`"
        return ValueError(f"{self.path} is not a COCO instances file: {message}; {_remedy(self._data)}")


def read_bytes(path: Path) -> bytes:
    """A file's contents; ValueError naming it if that cannot be done."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the annotation file {path}: {error.strerror}") from None


def _remedy(data: bytes) -> str:
    try:
        keys = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return "an object with 'images', 'annotations' and 'categories' is needed (is this a file of results?)"
    return f"it has {', '.join(map(repr, keys)) or 'nothing'}; 'images', 'annotations' and 'categories' are needed"


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
                    f"{key} {value}; correct or remove it, as `detkit data check SOURCE --fix OUT` does"
                )
    return None


def _finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
