"""Large images as overlapping tiles: where they lie."""

from __future__ import annotations

from dataclasses import dataclass

Window = tuple[int, int, int, int]
"""A part of an image: left, top, right, bottom in whole pixels."""


@dataclass(frozen=True)
class Tiling:
    """How an image is cut into tiles that overlap.

    Tiles lie `size - overlap` pixels apart; the last of a row or a column ends where the image ends, so that all tiles
    are equally large and none reaches outside. An image that is smaller is one tile, as large as it is. These are the
    windows of DOTA's devkit and of MMRotate; 1024 and 200 are what models of DOTA are trained with.

    An object whose upright box is nowhere longer than `overlap` lies whole in at least one tile.

    Args:
        size: side of a tile in pixels.
        overlap: how much of it the next one has, too, in pixels.
        nms_iou: where predictions of tiles are joined, boxes of one class that overlap more are one object.

    Raises:
        ValueError: the overlap is negative or no less than the size, or `nms_iou` is not from 0 to 1.
    """

    size: int = 1024
    overlap: int = 200
    nms_iou: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.size:
            raise ValueError(
                f"tiles of {self.size} pixels that overlap by {self.overlap}: the overlap must be from 0 to "
                "below the size"
            )
        if not 0 <= self.nms_iou <= 1:
            raise ValueError(f"nms_iou is {self.nms_iou}; it must be from 0 to 1")

    def windows(self, height: int, width: int) -> list[Window]:
        """The tiles of an image of this size, row by row."""
        rows, columns = self._spans(height), self._spans(width)
        return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]

    def _spans(self, length: int) -> list[tuple[int, int]]:
        """Where tiles begin and end in one direction."""
        last = max(0, length - self.size)
        starts = [*range(0, last, self.size - self.overlap), last]
        return [(start, min(start + self.size, length)) for start in starts]
