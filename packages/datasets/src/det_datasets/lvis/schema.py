"""The parts of an LVIS file that are read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from det_datasets.coco.schema import CategoryEntry, CocoFile
from det_datasets.lvis.synsets import coco_ids
from detkit.structures.coco import COCO

Names = Literal["lvis", "coco"]

_OLD_NAME = re.compile(r"COCO_(train|val|test)\d{4}_(?=\d{12}\.)")


class LvisImage(msgspec.Struct, gc=False, kw_only=True):
    """An entry of `images`: one of COCO's, in the folder that its address ends with, which may be another than that of
    the split. In v0.5 names of files are those of COCO 2014."""

    id: int
    height: int
    width: int
    coco_url: str = ""
    given_name: str = msgspec.field(name="file_name", default="")

    def __post_init__(self) -> None:
        if not self.coco_url and not self.given_name:
            raise ValueError(f"image {self.id} has neither coco_url nor file_name")

    @property
    def file_name(self) -> str:
        """train2017/000000391895.jpg"""
        return place_of(self.coco_url, self.given_name)


class LvisCategory(CategoryEntry, kw_only=True):
    """An entry of `categories`."""

    name: str = ""
    synset: str = ""
    synonyms: tuple[str, ...] = ()


class LvisFile(CocoFile):
    """An LVIS file, read as one of COCO.

    Args:
        path: the JSON file.
        categories: "lvis"; "coco", so that annotations of others are left out.

    Raises:
        ValueError: see `CocoFile`; or none of the categories is one of COCO's.
    """

    def __init__(self, path: Path, categories: Names = "lvis") -> None:
        super().__init__(path, LvisImage, LvisCategory)
        self._ids: dict[int, int] | None = None
        if categories == "coco":
            try:
                self._ids = coco_ids((entry.id, entry.synset) for entry in self.categories)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            self.categories = [CategoryEntry(id, name) for id, name in zip(COCO.ids, COCO.names, strict=True)]
        else:
            given = [(entry.name, entry.synonyms, entry.synset) for entry in self.categories]
            for entry, name in zip(self.categories, distinct_names(given), strict=True):
                entry.name = name

    def annotations(self, size: int, *, keypoints: bool) -> Iterator[list[Any]]:
        for entries in super().annotations(size, keypoints=keypoints):
            if self._ids is not None:
                entries = [entry for entry in entries if entry.category_id in self._ids]
                for entry in entries:
                    entry.category_id = self._ids[entry.category_id]
            yield entries


def place_of(address: str, name: str) -> str:
    """Where an image is, by its `coco_url` or else its `file_name`."""
    return "/".join(address.split("/")[-2:]) if address else _OLD_NAME.sub("", name)


def distinct_names(categories: Sequence[tuple[str, Sequence[str], str]]) -> list[str]:
    """A name of its own for every category (name, synonyms, synset): those that share one are told apart by their
    synsets."""
    names = [name or next(iter(synonyms), synset) for name, synonyms, synset in categories]
    often = Counter(names)
    return [
        f"{name} ({synset})" if often[name] > 1 and synset else name
        for name, (_, _, synset) in zip(names, categories, strict=True)
    ]
