"""Pictures that say of every pixel what it is: its class, or the segment that it belongs to."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from detkit.data.stores.store import local_folder
from detkit.structures.batch import UNLABELLED
from detkit.structures.categories import Categories
from detkit.structures.semantic_map import SemanticMap


class NamedClass(msgspec.Struct, omit_defaults=True):
    """A class of pixels in a `FOLDER.json`."""

    id: int
    name: str
    supercategory: str = ""


class PixelLabels:
    """A folder of PNG files named as the images are, whose grey values or palette indices are labels: 0 for the first
    class, 1 for the next, ..., 255 where there is none. Beside the folder lies `FOLDER.json` with the names of the
    classes in that order: ["things", "grass", "sky"], or with their ids in the dataset, [{"id": 0, "name": "things"},
    {"id": 193, "name": "grass"}, ...]. For panoptic models the first must stand for all things together, as in
    Detectron2's `panoptic_stuff_*` folders.

    Args:
        folder: of the PNG files.
        classes: where there is no `FOLDER.json`.
        values_are_ids: the values in the files are not labels but the ids of the classes; 0, unless it is one, and 255
            are no class.

    Raises:
        ValueError: there is no such folder on this machine, or its classes are not known.
    """

    def __init__(self, folder: Path, classes: Categories | None = None, *, values_are_ids: bool = False) -> None:
        self.folder = folder = local_folder(folder)
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder} with labels of pixels")
        self.categories = _read_classes(names_file(folder)) if classes is None else classes
        values = self.categories.ids if values_are_ids else range(len(self.categories))
        self._labels = np.full(256, UNLABELLED, np.uint8)
        self._labels[list(values)] = range(len(self.categories))
        self._known = self._labels != UNLABELLED
        self._known[[0, UNLABELLED] if values_are_ids else [UNLABELLED]] = True
        self._same = not values_are_ids

    def read(self, name: str, size: tuple[int, int]) -> SemanticMap:
        """The labels (H, W) of the image file called `name`.

        Raises:
            ValueError: the file is missing, is of another size than the image, or holds anything but labels.
        """
        path = (self.folder / name).with_suffix(".png")
        values = read_values(path, size, ("L", "P"), "labels are grey values or palette indices (L, P)")
        if not self._known[values].all():
            unknown = values[~self._known[values]][0]
            given = np.flatnonzero(self._known[:UNLABELLED])
            raise ValueError(
                f"{path} has pixels with label {unknown}; {names_file(self.folder)} names labels {given[0]} to "
                f"{given[-1]}"
            )
        return SemanticMap(torch.from_numpy(values if self._same else self._labels[values]))


def read_values(path: Path, size: tuple[int, int], modes: tuple[str, ...], wanted: str) -> NDArray[np.uint8]:
    """The values (H, W), or (H, W, channels), of the picture that belongs to an image of this size.

    Raises:
        ValueError: the file is missing, of another mode or of another size than the image; `wanted` says what modes
            mean.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in modes:
                raise ValueError(f"{path} has mode {picture.mode}; {wanted}")
            values = np.array(picture)
    except OSError as error:
        raise ValueError(f"cannot read the labels of pixels in {path}: {error.strerror or error}") from None
    if values.shape[:2] != size:
        raise ValueError(
            f"{path} is {values.shape[1]} x {values.shape[0]} pixels, its image {size[1]} x {size[0]}; "
            "they must be of one size"
        )
    return values


def read_ids(path: Path, size: tuple[int, int]) -> NDArray[np.int32]:
    """The ids (H, W) of segments in a picture of COCO's panoptic form: red + 256 green + 65536 blue. ValueError as in
    `read_values`."""
    colours = read_values(path, size, ("RGB", "RGBA"), "ids of segments are colours (RGB)").astype(np.int32)
    return colours[..., 0] | colours[..., 1] << 8 | colours[..., 2] << 16


def picture_of_ids(ids: NDArray[np.int32]) -> Image.Image:
    """What `read_ids` reads."""
    return Image.fromarray(np.stack([ids, ids >> 8, ids >> 16], axis=-1).astype(np.uint8))


def names_file(folder: Path) -> Path:
    """Where the names of the classes are."""
    return folder.with_name(f"{folder.name}.json")


def write_names(folder: Path, classes: Categories) -> None:
    """Write the file of names with the dataset's ids."""
    groups = classes.supercategories or ("",) * len(classes)
    entries = [NamedClass(*entry) for entry in zip(classes.ids, classes.names, groups, strict=True)]
    names_file(folder).write_bytes(msgspec.json.encode(entries))


def _read_classes(path: Path) -> Categories:
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[str | NamedClass])
        if not 0 < len(entries) < UNLABELLED:
            raise ValueError(f"it names {len(entries)} classes; 1 to {UNLABELLED - 1} are possible")
        named = [entry for entry in entries if isinstance(entry, NamedClass)]
        if len(named) < len(entries):
            return Categories(tuple(entry.name if isinstance(entry, NamedClass) else entry for entry in entries))
        groups = tuple(entry.supercategory for entry in named)
        ids = tuple(entry.id for entry in named)
        return Categories(tuple(entry.name for entry in named), ids, groups if any(groups) else ())
    except OSError as error:
        raise ValueError(
            f"cannot read {path}, the names of the classes of pixels ({error.strerror}); write, say, "
            '["things", "grass", "sky"], label 0 first'
        ) from None
    except ValueError as error:  # msgspec's errors among them
        raise ValueError(f"{path}: {error}; a JSON list of names is needed, label 0 first") from None
