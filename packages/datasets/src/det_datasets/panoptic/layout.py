"""Folders in which COCO's panoptic files and their images are found without being told where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LAYOUT = (
    "annotations/panoptic_train2017.json with annotations/panoptic_train2017/ or panoptic_train2017/, and the images "
    "in train2017/ or images/train2017/, without annotations/instances_train2017.json (with it, see 'coco'); val alike"
)
_OFFICIAL = re.compile(r"panoptic_((train|val|test)\d*)\.json")


def find_splits(folder: Path) -> Mapping[str, Mapping[str, Any]] | None:
    """Split -> arguments of a folder in the layout of `LAYOUT`; None if it is not."""
    found: dict[str, Mapping[str, Any]] = {}
    for file in sorted((folder / "annotations").glob("panoptic_*.json")):
        match = _OFFICIAL.fullmatch(file.name)
        if match is None or (folder / "annotations" / f"instances_{match[1]}.json").exists():
            continue
        places = (folder / match[1], folder / "images" / match[1])
        images = next((place for place in places if place.is_dir()), places[0])
        if files := find_panoptic(folder, match[1]):
            annotations, pictures = files
            found[match[2]] = {"images": images, "annotations": annotations, "pictures": pictures}
    return found or None


def find_panoptic(folder: Path, name: str) -> tuple[Path, Path] | None:
    """The panoptic JSON file and the folder of pictures of the images in "train2017", ...; None if they are not
    there."""
    file = folder / "annotations" / f"panoptic_{name}.json"
    pictures = [place / f"panoptic_{name}" for place in (file.parent, folder)]
    place = next((place for place in pictures if place.is_dir()), None)
    return (file, place) if place and file.is_file() else None
