"""The lines of YOLO's label files."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from det_datasets.quads import rotated_boxes

FARTHEST = 2.0
"""Coordinates are from 0 to 1; a little more is tolerated, but not what must be pixels."""

_FULL = 0.9  # of the area of a rotated box, from which on what it encloses passes as a rectangle
_MOST = 0.95  # of all quadrilaterals
_UPRIGHT = 2.0  # degrees


class Lines:
    """The lines (A) of all label files (I), which are read here.

    Args:
        paths: of the files; None for an image that has none.
        classes: how many there are.
        problems: where lines that repeat another are counted.

    Raises:
        ValueError: a line holds anything but finite numbers, or no class that there is; the message names it.
    """

    def __init__(self, paths: Sequence[str | None], classes: int, problems: Counter[str]) -> None:
        self._paths = paths
        images, lines, labels, sizes, numbers = array("q"), array("q"), array("d"), array("q"), array("d")
        for image, path in enumerate(paths):
            if path is None:
                continue
            try:
                with open(path, "rb") as file:
                    content = file.read().splitlines()
            except OSError as error:
                raise ValueError(f"cannot read the labels {path}: {error.strerror}") from None
            seen: set[bytes] = set()
            for number, line in enumerate(content, start=1):
                fields = line.split()
                if not fields:
                    continue
                if line in seen:
                    problems["lines repeat another one of the same image: left out"] += 1
                    continue
                seen.add(line)
                try:
                    labels.append(float(fields[0]))
                    numbers.extend(map(float, fields[1:]))
                except ValueError:
                    raise ValueError(f"{path}:{number}: {_shown(line)} is not a line of numbers") from None
                images.append(image)
                lines.append(number)
                sizes.append(len(fields) - 1)
        self.images = np.array(images, np.int64)  # (A,)
        self.numbers = np.array(numbers, np.float64)  # of all lines, without the classes
        self.sizes = np.array(sizes, np.int64)  # (A,) how many of them each line has
        self.starts = np.cumsum(self.sizes) - self.sizes
        self._lines = lines
        self._require_finite()
        given = np.array(labels)
        for row in np.flatnonzero((given < 0) | (given >= classes) | (given != np.floor(given)))[:1]:
            raise ValueError(f"{self.place(row)}: class {given[row]:g}; there are classes 0 to {classes - 1}")
        self.labels = given.astype(np.int64)

    def place(self, row: int | np.intp) -> str:
        """The file and the number of a line."""
        return f"{self._paths[self.images[row]]}:{self._lines[row]}"

    def table(self, rows: NDArray[np.intp], columns: int) -> NDArray[np.float64]:
        """The first numbers of lines that have as many."""
        return self.numbers[self.starts[rows, None] + np.arange(columns)]

    def _require_finite(self) -> None:
        for position in np.flatnonzero(~np.isfinite(self.numbers))[:1]:
            row = np.searchsorted(self.starts, position, side="right") - 1
            raise ValueError(f"{self.place(row)}: {self.numbers[position]} is not a finite number")

    def require_sizes(self, allowed: NDArray[np.bool_], wanted: str) -> None:
        """ValueError naming the first line whose number of numbers is not `allowed` (A,)."""
        for row in np.flatnonzero(~allowed)[:1]:
            raise ValueError(f"{self.place(row)}: {self.sizes[row]} numbers after the class; {wanted}")

    def require_shares(self, rows: NDArray[np.intp], largest: NDArray[np.float64]) -> None:
        """ValueError naming the first of some lines (n,) whose `largest` (n,) coordinate cannot be a share of the
        image."""
        for row in rows[largest > FARTHEST][:1]:
            raise ValueError(
                f"{self.place(row)}: coordinates must be shares of the image's width and height, from 0 to 1; these "
                "seem to be pixels"
            )


def guess_task(lines: Lines, sizes: NDArray[np.int32]) -> str:
    """What the lines are, of images of these sizes (I, 2), where nobody says.

    Four numbers are boxes; more are outlines. If there are eight everywhere, these are the corners of oriented boxes if
    nearly all are rectangles and not all upright.

    Raises:
        ValueError: they may as well be outlines of four points.
    """
    if (lines.sizes == 4).all():
        return "detect"
    if not (lines.sizes == 8).all():
        return "segment"
    quads = lines.table(np.arange(len(lines.sizes)), 8).reshape(-1, 4, 2) * sizes[lines.images][:, None, ::-1]
    boxes = rotated_boxes(quads)
    following = np.roll(quads, -1, axis=1)
    doubled = (quads[..., 0] * following[..., 1] - quads[..., 1] * following[..., 0]).sum(axis=1)
    full = np.abs(doubled) / 2 >= _FULL * boxes[:, 2] * boxes[:, 3]
    turned = np.abs((boxes[:, 4] + 45) % 90 - 45) > _UPRIGHT
    if full.mean() >= _MOST and turned.any():
        return "obb"
    raise ValueError(
        "all lines have eight numbers: oriented boxes by their corners, or outlines of four points; say which with "
        "`task: obb` or `task: segment` in data.yaml"
    )


def _shown(line: bytes) -> str:
    text = line.decode(errors="replace").strip()
    return repr(text if len(text) < 60 else f"{text[:60]}...")
