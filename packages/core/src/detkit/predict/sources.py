"""What can be predicted on: files, folders, patterns and images in memory, one after the other."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detkit.data.image import IMAGE_SUFFIXES, read_image, to_rgb

ACCEPTED = (
    "a path, a folder, a pattern such as 'folder/**/*.jpg', an array (H, W, 3) uint8 RGB, a PIL image, a tensor "
    "(3, H, W) uint8 RGB, or a list of them"
)


@dataclass(frozen=True)
class Source:
    """One image that is yet to be read: a file, or an image in memory."""

    image: Path | np.ndarray | Image.Image | Tensor

    @property
    def path(self) -> str | None:
        """The file it comes from, if it does."""
        return str(self.image) if isinstance(self.image, Path) else None

    def read(self) -> Tensor:
        """uint8 RGB (3, H, W), turned upright as the file's EXIF data say.

        Raises:
            ValueError: the file cannot be decoded, or the image has another shape or type; says which.
        """
        match self.image:
            case Path():
                return read_image(self.image)
            case Image.Image():
                return to_rgb(self.image)
            case np.ndarray():
                return _from_array(self.image)
            case _:
                return _from_tensor(self.image)


def is_single(source: Any) -> bool:
    """Whether `source` means exactly one image, so that the answer is one prediction rather than a list."""
    if isinstance(source, str):
        return not glob.has_magic(source) or Path(source).is_file()
    if isinstance(source, Path):
        return not source.is_dir()
    return isinstance(source, Source | np.ndarray | Image.Image | Tensor)


def find_sources(source: Any) -> Iterator[Source]:
    """The images that `source` means, in order; files of a folder by name. Nothing is decoded yet.

    Raises:
        ValueError: a path does not exist, a folder holds no image, or the type is none of those accepted.
    """
    match source:
        case Source():
            yield source
        case str() | Path():
            yield from (Source(path) for path in _find_files(source))
        case np.ndarray() | Image.Image() | Tensor():
            yield Source(source)
        case Iterable() if not isinstance(source, dict | bytes):
            for entry in source:
                if isinstance(entry, list | tuple):
                    raise ValueError(f"a list inside a list of images; give {ACCEPTED}")
                yield from find_sources(entry)
        case None:
            raise ValueError(f"the image is None (cv2.imread returns that for a file it cannot read); give {ACCEPTED}")
        case _:
            raise ValueError(f"cannot predict on a {type(source).__name__}; give {ACCEPTED}")


def _find_files(source: str | Path) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file())
        if not found:
            raise ValueError(
                f"the folder {path} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}); "
                f"for those in folders below it, give the pattern '{path}/**/*.jpg'"
            )
        return found
    if glob.has_magic(str(source)):
        names = (Path(name) for name in glob.glob(str(source), recursive=True))
        found = sorted(name for name in names if name.suffix.lower() in IMAGE_SUFFIXES and name.is_file())
        if not found:
            raise ValueError(f"no image matches the pattern {source}")
        return found
    if "://" in str(source):
        raise ValueError(f"{source} is an address; download the image and give its path")
    raise ValueError(f"{source} does not exist; give {ACCEPTED}")


def _from_array(image: np.ndarray) -> Tensor:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            f"the array is {image.dtype} {image.shape}; {_remedy(image.shape, str(image.dtype), last=True)}"
        )
    return torch.from_numpy(image.copy(order="C")).permute(
        2, 0, 1
    )  # a copy: arrays may be read-only or have negative strides


def _from_tensor(image: Tensor) -> Tensor:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        shape = tuple(image.shape)
        raise ValueError(f"the tensor is {image.dtype} {shape}; {_remedy(shape, str(image.dtype), last=False)}")
    return image


def _remedy(shape: tuple[int, ...], dtype: str, *, last: bool) -> str:
    wanted = f"uint8 RGB of shape {'(height, width, 3)' if last else '(3, height, width)'} is needed"
    channels = shape[-1 if last else 0] if len(shape) == 3 else None
    other = shape[0 if last else -1] if len(shape) == 3 else None
    if 0 in shape:
        return f"{wanted}, and not empty"
    if len(shape) == 4:
        return f"{wanted}: for several images, give a list of them"
    if len(shape) == 2:
        return f"{wanted}: repeat a grey image three times"
    if channels != 3 and other == 3:
        return f"{wanted}: move the channels {'to the end' if last else 'to the front'}"
    if channels == 4:
        return f"{wanted}: drop the alpha channel"
    if "float" in dtype:
        return f"{wanted}: multiply values from 0 to 1 by 255 and convert them"
    return wanted
