"""Reading image files as uint8 RGB tensors."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

Image.MAX_IMAGE_PIXELS = 1 << 30
"""Pillow warns of larger images and refuses those of twice as many pixels. Aerial ones have up to 30,000 on a side, for
which its own limit is a tenth."""

IMAGE_SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> Tensor:
    """Read an image file; see `decode_image`.

    Raises:
        ValueError: as there; or the file is missing.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the image {path}: {error.strerror or error}") from error
    return decode_image(data, str(path), size)


def decode_image(data: bytes, place: str, size: tuple[int, int] | None = None) -> Tensor:
    """An image file's contents as uint8 RGB (3, H, W), laid out pixel by pixel in memory, which is what resizing is
    fastest on.

    Images are turned as their EXIF orientation says. Annotation tools disagree about that: where the result is not of
    the `size` (height, width) that the annotations say, but the pixels as stored are, these are returned.

    Args:
        data: the file.
        place: where it is, for messages.
        size: height and width that the annotations say.

    Raises:
        ValueError: it is cut short or no image, or has another size; the message names the place.
    """
    try:
        image = _decoder()(data)
        if size is not None and tuple(image.shape[1:]) != size:
            image = _decode_with_pillow(data, turn=False)
    except (OSError, RuntimeError, SyntaxError, Image.DecompressionBombError) as error:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "not an image format that is known here" if unknown else " ".join(str(error).split())
        raise ValueError(f"cannot read the image {place}: {reason}") from error
    if size is not None and tuple(image.shape[1:]) != size:
        height, width = image.shape[1:]
        raise ValueError(
            f"the image {place} is {width} x {height} pixels, but its annotations say {size[1]} x {size[0]}; "
            "its boxes would lie elsewhere: correct the annotation file or restore the image"
        )
    return image


@cache
def _decoder() -> Callable[[bytes], Tensor]:
    """torchcodec where it is installed, else Pillow; they give the same bytes."""
    try:
        from torchcodec.decoders import decode_image as torchcodec_decode
    except (ImportError, OSError, RuntimeError):  # it may be installed without the libraries that it needs
        return _decode_with_pillow

    def decode(data: bytes) -> Tensor:
        try:
            image: Tensor = torchcodec_decode(data)
        except (RuntimeError, ValueError):  # it does not know BMP and TIFF; Pillow says best what is wrong with a file
            return _decode_with_pillow(data)
        return image[0] if image.ndim == 4 else image  # the first frame of an animation

    return decode


def _decode_with_pillow(data: bytes, turn: bool = True) -> Tensor:
    with Image.open(io.BytesIO(data)) as file:
        return to_rgb(file, turn)


def to_rgb(picture: Image.Image, turn: bool = True) -> Tensor:
    """A Pillow image of any mode as uint8 RGB (3, H, W), turned as its EXIF orientation says unless `turn` is False."""
    upright = ImageOps.exif_transpose(picture) if turn else picture
    if upright.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    return torch.from_numpy(np.array(upright.convert("RGB"))).permute(2, 0, 1)
