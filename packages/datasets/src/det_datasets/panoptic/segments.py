"""Segments as a few long tensors, as `Columns` has objects."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from det_datasets.columns import span


@dataclass
class Segments:
    """What the pixels of each of I images consist of: S segments, ordered by image."""

    ends: Tensor  # (I,) int64: the segments of an image are those up to here
    ids: Tensor  # (S,) int32, unique in an image, not 0
    labels: Tensor  # (S,) int16, of `categories` for things, of `semantic_categories` for stuff
    things: Tensor  # (S,) bool
    crowd: Tensor  # (S,) bool
    areas: Tensor  # (S,) int32 pixels

    def of_image(self, index: int) -> Segments:
        """Those of one image."""
        start, end = span(self.ends, index)
        rows = slice(start, end)
        last = torch.tensor([end - start])
        return Segments(last, self.ids[rows], self.labels[rows], self.things[rows], self.crowd[rows], self.areas[rows])


class SegmentsBuilder:
    """Segments that are read one by one: `image`, then `segment` for each of its segments, and so on."""

    def __init__(self) -> None:
        self._ends = array("q")
        self._ids, self._areas = array("i"), array("i")
        self._labels = array("h")
        self._things, self._crowd = array("B"), array("B")

    def image(self) -> None:
        """Begin an image."""
        self._ends.append(len(self._ids))

    def segment(self, id: int, label: int, *, thing: bool, crowd: bool, area: int) -> None:
        """Add a segment to the last image."""
        self._ids.append(id)
        self._labels.append(label)
        self._things.append(thing)
        self._crowd.append(crowd)
        self._areas.append(area)
        self._ends[-1] = len(self._ids)

    def build(self) -> Segments:
        """Everything that was added."""
        return Segments(
            ends=_tensor(self._ends, np.int64),
            ids=_tensor(self._ids, np.int32),
            labels=_tensor(self._labels, np.int16),
            things=_tensor(self._things, np.uint8).bool(),
            crowd=_tensor(self._crowd, np.uint8).bool(),
            areas=_tensor(self._areas, np.int32),
        )


def _tensor(values: array[int], dtype: type[np.generic]) -> Tensor:
    return torch.from_numpy(np.frombuffer(values, dtype).copy())
