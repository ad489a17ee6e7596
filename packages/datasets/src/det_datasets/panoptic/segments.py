"""Segments in columns: those of one image, and the things among all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from det_datasets.columns import Columns, span


@dataclass
class Segments:
    """What the pixels of an image consist of: S segments."""

    ids: Tensor  # (S,) int64, not 0
    classes: Tensor  # (S,) int64: those of things, then those of stuff
    crowd: Tensor  # (S,) bool
    areas: Tensor  # (S,) float32 pixels

    @classmethod
    def of_image(cls, columns: Columns, index: int) -> Segments:
        """Those of an image; columns hold all segments as if they were objects, whose labels are their classes."""
        rows = slice(*span(columns.annotation_ends, index))
        return cls(columns.annotation_ids[rows], columns.labels[rows], columns.crowd[rows], columns.areas[rows])


def things_of(columns: Columns, things: int) -> Columns:
    """The objects among segments: those of the first so many classes, with ids that are unique in the dataset."""
    keep = columns.labels < things
    before = torch.cat((torch.zeros(1, dtype=torch.int64), keep.cumsum(0)))
    count = int(before[-1])
    return replace(
        columns,
        annotation_ends=before[columns.annotation_ends],
        annotation_ids=torch.arange(1, count + 1),
        boxes=columns.boxes[keep],
        labels=columns.labels[keep],
        crowd=columns.crowd[keep],
        areas=columns.areas[keep],
        difficult=columns.difficult[keep],
        keypoints=columns.keypoints[keep],
        rings_of=columns.rings_of[keep],
        code_ends=columns.code_ends[keep],
    )
