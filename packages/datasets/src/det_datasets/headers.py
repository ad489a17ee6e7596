"""The sizes of images, of which only the headers are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from det_datasets.errors import Errors

_ORIENTATION = 274  # the EXIF tag
_TURNED = (5, 6, 7, 8)  # its values that exchange width and height
_AT_ONCE = 64


def read_sizes(paths: Sequence[str | Path]) -> NDArray[np.int32]:
    """Height and width (n, 2) of images, turned as their EXIF orientation says, as `detkit.data.image` reads them.

    Raises:
        ValueError: files are missing, or no images; the message names them.
    """
    parts = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    found: list[tuple[int, int]] = []
    errors = Errors()
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as threads:
        for part in [threads.submit(_read, part) for part in parts]:
            with errors.noted():
                found += part.result()
    errors.raise_all()
    return np.array(found, np.int32).reshape(-1, 2)


def _read(paths: Sequence[str | Path]) -> list[tuple[int, int]]:
    errors = Errors()
    found = []
    for path in paths:
        with errors.noted():
            found.append(_size(path))
    errors.raise_all()
    return found


def _size(path: str | Path) -> tuple[int, int]:
    try:
        with Image.open(path) as picture:
            turned = orientation(picture) in _TURNED
            return (picture.width, picture.height) if turned else (picture.height, picture.width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(f"cannot read the size of the image {path}: {reason}") from error


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none, of a picture that was opened and not decoded."""
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1  # Pillow would decode the whole picture to look behind it
    return int(picture.getexif().get(_ORIENTATION, 1))
