"""Folders in which LVIS's files and COCO's images are found without being told where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LAYOUT = (
    "lvis_v1_train.json, lvis_v1_val.json, lvis_v1_image_info_test_dev.json (or those of v0.5) in lvis/, in "
    "annotations/ or in the folder itself, and the images in train2017/, val2017/ and test2017/ in the folder, or in "
    "coco/ in it or beside it"
)
_OFFICIAL = re.compile(r"lvis_v[\d.]+_(?:image_info_)?(train|val|test)(?:_dev|_challenge)?\.json")


def find_splits(folder: Path) -> Mapping[str, Mapping[str, Any]] | None:
    """Split -> `images` and `annotations` of a folder in the layout of `LAYOUT`; None if it is not."""
    for place in (folder / "lvis", folder, folder / "annotations"):
        if any(place.glob("instances_*.json")):
            continue  # COCO's annotations, with those of LVIS beside them
        found = {}
        for file in sorted(place.glob("lvis_v*.json")):  # the newest version is the last
            if match := _OFFICIAL.fullmatch(file.name):
                found[match[1]] = {"images": _images(folder), "annotations": file}
        if found:
            return found
    return None


def _images(folder: Path) -> Path:
    places = (folder / "coco", folder, folder / "images", folder.parent / "coco")
    return next((place for place in places if any(place.glob("*2017"))), places[0])
