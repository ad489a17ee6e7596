"""Annotations of one image after the other, where they come in another order and are too many to be held in memory."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import msgspec


@contextmanager
def by_image(
    annotations: Iterable[dict[str, Any]], folder: Path
) -> Iterator[Callable[[int | str], list[dict[str, Any]]]]:
    """Keep annotations in a temporary file.

    Args:
        annotations: in COCO's form, in any order.
        folder: that has room for the file.

    Returns:
        image id -> the annotations of this image, without `image_id`, in the order in which they came.
    """
    places: dict[Any, array[int]] = defaultdict(lambda: array("q"))  # of an image: starts and lengths
    with TemporaryFile(dir=folder) as file:
        end = 0
        for entry in annotations:
            text = msgspec.json.encode({key: value for key, value in entry.items() if key != "image_id"})
            places[entry["image_id"]].extend((end, len(text)))
            end += file.write(text)

        def of(image_id: int | str) -> list[dict[str, Any]]:
            found, own = [], places.get(image_id, ())
            for start, length in zip(own[::2], own[1::2], strict=True):
                file.seek(start)
                found.append(msgspec.json.decode(file.read(length)))
            return found

        yield of
