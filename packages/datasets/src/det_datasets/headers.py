"""The sizes of images, of which only the headers are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ORIENTATION = 274  # the EXIF tag
_TURNED = (5, 6, 7, 8)  # its values that exchange width and height
_AT_ONCE = 64


def read_sizes(paths: Sequence[str | Path]) -> NDArray[np.int32]:
    """Height and width (n, 2) of images, turned as their EXIF orientation says, as `detkit.data.image` reads them.

    Raises:
        ValueError: a file is missing, or no image; the message names it.
    """
    parts = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as threads:
        found = [size for sizes in threads.map(_read, parts) for size in sizes]
    return np.array(found, np.int32).reshape(-1, 2)


def _read(paths: Sequence[str | Path]) -> list[tuple[int, int]]:
    found = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                turned = orientation(picture) in _TURNED
                found.append((picture.width, picture.height) if turned else (picture.height, picture.width))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise ValueError(f"cannot read the size of the image {path}: {reason}") from error
    return found


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none, of a picture that was opened and not decoded."""
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1  # Pillow would decode the whole picture to look behind it
    return int(picture.getexif().get(_ORIENTATION, 1))
