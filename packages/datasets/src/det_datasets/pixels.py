"""Labels of pixels beside a COCO file: a PNG for each image, and the names of the classes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch
from PIL import Image

from detkit.structures.batch import UNLABELLED
from detkit.structures.categories import Categories
from detkit.structures.semantic_map import SemanticMap


class PixelLabels:
    """A folder of PNG files named as the images are, whose grey values or palette indices are labels: 0 for the first
    class, 1 for the next, ..., 255 where there is none. Beside the folder lies `FOLDER.json` with the names of the
    classes in that order: ["things", "grass", "sky"]. For panoptic models the first must stand for all things together,
    as in Detectron2's `panoptic_stuff_*` folders.

    Args:
        folder: of the PNG files.

    Raises:
        ValueError: there is no such folder, or its classes are not known.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder} with labels of pixels")
        self.categories = Categories(_read_names(names_file(folder)), ids=())

    def read(self, name: str, size: tuple[int, int]) -> SemanticMap:
        """The labels (H, W) of the image file called `name`.

        Raises:
            ValueError: the file is missing, is of another size than the image, or holds anything but labels.
        """
        path = (self.folder / name).with_suffix(".png")
        try:
            with Image.open(path) as picture:
                if picture.mode not in ("L", "P"):
                    raise ValueError(
                        f"{path} has mode {picture.mode}; labels are grey values or palette indices (L, P)"
                    )
                labels = np.array(picture)
        except OSError as error:
            raise ValueError(f"cannot read the labels of pixels in {path}: {error.strerror or error}") from None
        if labels.shape != size:
            raise ValueError(
                f"{path} is {labels.shape[1]} x {labels.shape[0]} pixels, its image {size[1]} x {size[0]}; "
                "they must be of one size"
            )
        unknown = labels[(labels >= len(self.categories)) & (labels != UNLABELLED)]
        if len(unknown):
            raise ValueError(
                f"{path} has pixels with label {unknown[0]}; {names_file(self.folder)} names labels 0 to "
                f"{len(self.categories) - 1}"
            )
        return SemanticMap(torch.from_numpy(labels))


def names_file(folder: Path) -> Path:
    """Where the names of the classes are."""
    return folder.with_name(f"{folder.name}.json")


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        names = msgspec.json.decode(path.read_bytes(), type=list[str])
        if not 0 < len(names) < UNLABELLED:
            raise ValueError(f"it names {len(names)} classes; 1 to {UNLABELLED - 1} are possible")
        return tuple(names)
    except OSError as error:
        raise ValueError(
            f"cannot read {path}, the names of the classes of pixels ({error.strerror}); write, say, "
            '["things", "grass", "sky"], label 0 first'
        ) from None
    except ValueError as error:  # msgspec's errors among them
        raise ValueError(f"{path}: {error}; a JSON list of names is needed, label 0 first") from None
