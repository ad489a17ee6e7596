"""Folders in which COCO files and their images are found without being told where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from det_datasets.panoptic.layout import find_panoptic
from det_datasets.pixels import names_file

LAYOUT = (
    "train/annotations.json (as `detkit data make` writes it) or train/_annotations.coco.json (Roboflow) with the "
    "images in train/images/ or in train/, or annotations/instances_train2017.json (COCO) with train2017/ or "
    "images/train2017/; val and test alike. Labels of pixels, if any: train/semantic/ with train/semantic.json, or "
    "panoptic_stuff_train2017/ with panoptic_stuff_train2017.json. Panoptic segments, if any, beside panoptic_stuff_*: "
    "annotations/panoptic_train2017.json with annotations/panoptic_train2017/ or panoptic_train2017/"
)
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_OFFICIAL = re.compile(r"instances_(train|val|test)(\d*)\.json")


def find_splits(folder: Path) -> Mapping[str, Mapping[str, Any]] | None:
    """Split -> `images` and `annotations` of a folder in one of the layouts of `LAYOUT`; None if it is in none."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, split in _SPLITS.items():
        for file in (folder / name / "annotations.json", folder / name / "_annotations.coco.json"):
            if file.is_file() and split not in found:
                images = folder / name / "images"
                found[split] = {
                    "images": images if images.is_dir() else folder / name,
                    "annotations": file,
                    **_semantic(folder / name / "semantic"),
                }
    if found:
        return found
    for file in sorted((folder / "annotations").glob("instances_*.json")):
        if match := _OFFICIAL.fullmatch(file.name):
            name = match[1] + match[2]
            places = (folder / name, folder / "images" / name)
            images = next((place for place in places if place.is_dir()), places[0])
            pixels = _pixels(folder, name)
            found[match[1]] = {"images": images, "annotations": file, **pixels}  # the newest year is the last
    return found or None


def _pixels(folder: Path, name: str) -> dict[str, Path]:
    """The arguments for labels of the pixels of train2017, ..., and for panoptic segments, which need them."""
    stuff, files = folder / f"panoptic_stuff_{name}", find_panoptic(folder, name)
    if files is None or not stuff.is_dir():
        return _semantic(stuff)
    return {"semantic": stuff, "panoptic_annotations": files[0], "panoptic": files[1]}


def _semantic(folder: Path) -> dict[str, Path]:
    """The argument for labels of pixels, if they are there with the names of their classes."""
    return {"semantic": folder} if folder.is_dir() and names_file(folder).is_file() else {}
