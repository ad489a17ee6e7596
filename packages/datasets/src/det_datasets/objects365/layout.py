"""Folders in which Objects365's files are found without being told where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detkit.data.stores.files import is_url

LAYOUT = (
    "zhiyuan_objv2_train.json (v2) or objects365_train.json (v1) in the folder, in annotations/ or in train/, and the "
    "images in train/ or images/train/, there in patch0/, patch1/, ..., in images/v1/patch0/, ..., or without folders; "
    "val alike"
)
_OFFICIAL = re.compile(r"(?:zhiyuan_objv2|objects365)_(train|val|test)\.json")


def find_splits(folder: Path) -> Mapping[str, Mapping[str, Any]] | None:
    """Split -> `images` and `annotations` of a folder in the layout of `LAYOUT`; None if it is not."""
    found: dict[str, Mapping[str, Any]] = {}
    for split in ("train", "val", "test"):
        for place in (folder / "annotations", folder, folder / split):
            for file in sorted(place.glob(f"*_{split}.json")):  # v2 is the last
                if _OFFICIAL.fullmatch(file.name):
                    places = (folder / split, folder / "images" / split)
                    images = next((place for place in places if place.is_dir()), places[0])
                    found[split] = {"images": images, "annotations": file}
    return found or None


def parts_of_names(images: Path | str) -> int:
    """How much of names such as images/v1/patch8/objects365_v1_00420917.jpg the files of a folder have: so many of the
    last parts, 0 for all. Of what is not a folder it is patch8/objects365_v1_00420917.jpg."""
    if is_url(images) or not Path(images).is_dir():
        return 2
    folder = Path(images)
    if (folder / "images").is_dir():
        return 0
    if any((folder / version).is_dir() for version in ("v1", "v2")):
        return 3
    return 2 if any(folder.glob("patch*")) else 1
