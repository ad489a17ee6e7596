"""Masks of a large image, of which only the parts around the objects are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from hotcoco import mask as rle
from numpy.typing import NDArray
from torch import Tensor

Corner = tuple[int, int]
"""Left and top of a part of an image, in whole pixels."""


class PlacedMasks:
    """Masks (N, H, W) bool of an image on the host, each kept as the part of it that is not empty and where that lies:
    500 objects of an image of 20,000 x 20,000 pixels would be 200 GB as a tensor, and are a few MB here.

    `masks[3]` is one of them as a tensor (H, W); `masks[index]` with a mask (N,) bool, positions or a slice are some of
    them; `dense()` is the whole tensor; `encode()` is COCO's compressed RLE, made without it.

    Args:
        parts: of each mask, (h, w) bool.
        corners: where each part lies.
        image_size: height and width of the image.
    """

    def __init__(
        self, parts: Sequence[NDArray[np.bool_]], corners: Sequence[Corner], image_size: tuple[int, int]
    ) -> None:
        self.parts, self.corners, self.image_size = list(parts), list(corners), image_size

    @classmethod
    def of(cls, masks: Tensor | NDArray[np.bool_] | PlacedMasks) -> PlacedMasks:
        """Masks (N, H, W) in any form."""
        if isinstance(masks, PlacedMasks):
            return masks
        dense = (masks.numpy(force=True) if isinstance(masks, Tensor) else masks).astype(bool, copy=False)
        parts, corners = [], []
        for mask in dense:
            top, bottom = _span(mask.any(axis=1))
            left, right = _span(mask[top:bottom].any(axis=0))
            parts.append(mask[top:bottom, left:right].copy())
            corners.append((left, top))
        return cls(parts, corners, dense.shape[1:])

    @classmethod
    def cat(cls, masks: Sequence[PlacedMasks]) -> PlacedMasks:
        """Those of several, of one image, one after the other."""
        parts = [part for each in masks for part in each.parts]
        return cls(parts, [corner for each in masks for corner in each.corners], masks[0].image_size)

    def shifted(self, left: int, top: int, image_size: tuple[int, int]) -> PlacedMasks:
        """The same in a larger image, of which this one is the part that begins at `left` and `top`."""
        return PlacedMasks(self.parts, [(x + left, y + top) for x, y in self.corners], image_size)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        return (len(self), *self.image_size)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: Tensor | NDArray[np.int64] | slice) -> PlacedMasks: ...
    def __getitem__(self, index: int | Tensor | NDArray[np.int64] | slice) -> Tensor | PlacedMasks:
        if isinstance(index, int):
            part, (left, top) = self.parts[index], self.corners[index]
            whole = torch.zeros(self.image_size, dtype=torch.bool)
            whole[top : top + part.shape[0], left : left + part.shape[1]] = torch.from_numpy(part)
            return whole
        rows = np.arange(len(self))[index.numpy(force=True) if isinstance(index, Tensor) else index].tolist()
        return PlacedMasks([self.parts[row] for row in rows], [self.corners[row] for row in rows], self.image_size)

    def dense(self) -> Tensor:
        """(N, H, W) bool."""
        whole = torch.zeros(self.shape, dtype=torch.bool)
        for mask, part, (left, top) in zip(whole, self.parts, self.corners, strict=True):
            mask[top : top + part.shape[0], left : left + part.shape[1]] = torch.from_numpy(part)
        return whole

    def numpy(self, *, force: bool = False) -> NDArray[np.bool_]:
        """The same as an array, for what knows tensors alone."""
        return self.dense().numpy(force=force)

    def encode(self) -> list[dict[str, Any]]:
        """The masks, with all pixels of the image, as COCO's compressed RLE."""
        size = list(self.image_size)
        return [rle.frPyObjects({"size": size, "counts": self._counts(row)}, *size) for row in range(len(self))]

    def _counts(self, row: int) -> list[int]:
        """The lengths of runs without and with the mask by turns, column after column, from the upper left."""
        (height, width), (left, top), part = self.image_size, self.corners[row], self.parts[row]
        padded = np.zeros((part.shape[0] + 2, part.shape[1]), bool)
        padded[1:-1] = part
        rows, columns = np.nonzero(padded[1:] != padded[:-1])
        places = (columns + left) * height + rows + top
        places.sort()  # by turns where a run of a column begins, and behind where it ends
        apart = places[1:-1:2] != places[2::2]  # else it goes on at the top of the next column
        places = places[np.concatenate(([True], np.repeat(apart, 2), [True]))] if len(places) else places
        counts: list[int] = np.diff(places, prepend=0).tolist()
        rest = height * width - (int(places[-1]) if len(places) else 0)
        return [*counts, rest] if rest else counts


def encode_masks(masks: Tensor | NDArray[np.bool_] | PlacedMasks) -> list[dict[str, Any]]:
    """Masks (N, H, W) in any form as COCO's compressed RLE."""
    if isinstance(masks, PlacedMasks):
        return masks.encode()
    dense = masks.numpy(force=True) if isinstance(masks, Tensor) else masks
    codes = rle.encode(dense.transpose(1, 2, 0)) if len(dense) else []  # all in one call
    assert isinstance(codes, list)
    return codes


def _span(hit: NDArray[np.bool_]) -> tuple[int, int]:
    """From the first to behind the last that is True."""
    found = np.flatnonzero(hit)
    return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)
