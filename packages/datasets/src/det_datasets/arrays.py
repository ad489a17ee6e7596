"""Columns of formats that are read in bulk, as NumPy arrays of all annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from det_datasets.columns import Columns, Strings


def make_columns(
    *,
    image_ids: Sequence[str],
    names: Sequence[str],
    sizes: NDArray[np.int32],
    images: NDArray[np.int64],
    labels: NDArray[np.int64],
    boxes: NDArray[np.float64],
    crowd: NDArray[np.bool_] | None = None,
    difficult: NDArray[np.bool_] | None = None,
    marks: NDArray[np.uint8] | None = None,
    keypoints: NDArray[np.float64] | None = None,
    points: NDArray[np.float64] | None = None,
    ring_sizes: NDArray[np.int64] | None = None,
) -> Columns:
    """Columns of images (I) and annotations (A), which are ordered by image and numbered from 1.

    Args:
        image_ids, names, sizes: of images, see `Columns`.
        images: (A,) positions of the annotations' images, rising.
        labels, boxes, crowd, difficult, marks, keypoints: of annotations, see `Columns`; False, or none, by default.
        points: (P, 2) of outlines.
        ring_sizes: (A,) how many of the points belong to each annotation's one ring; 0 where there is no outline.
    """
    count = len(labels)
    ring_sizes = np.zeros(count, np.int64) if ring_sizes is None else ring_sizes
    extents = boxes[:, 2:4] if boxes.shape[1] == 5 else boxes[:, 2:] - boxes[:, :2]
    return Columns(
        image_ids=Strings.of(image_ids),
        sizes=_tensor(sizes.reshape(-1, 2), np.int32),
        names=Strings.of(names),
        annotation_ends=_tensor(np.cumsum(np.bincount(images, minlength=len(names))), np.int64),
        annotation_ids=torch.arange(1, count + 1),
        boxes=_tensor(boxes, np.float32),
        labels=_tensor(labels, np.int64),
        crowd=_tensor(np.zeros(count) if crowd is None else crowd, np.bool_),
        areas=_tensor(extents.prod(axis=1), np.float32),
        difficult=_tensor(np.zeros(count) if difficult is None else difficult, np.bool_),
        keypoints=_tensor(np.zeros((count, 0, 3)) if keypoints is None else keypoints, np.float32),
        points=_tensor(np.zeros((0, 2)) if points is None else points, np.float32),
        ring_ends=_tensor(np.cumsum(ring_sizes[ring_sizes > 0]), np.int64),
        rings_of=_tensor(np.cumsum(ring_sizes > 0), np.int64),
        codes=torch.zeros(0, dtype=torch.uint8),
        code_ends=torch.zeros(count, dtype=torch.int64),
        marks=_tensor(np.zeros(0) if marks is None else marks, np.uint8),
    )


def cut(
    boxes: NDArray[np.float64], sizes: NDArray[np.int32], problems: Counter[str], slack: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The part of boxes (A, 4) xyxy inside of their images of these sizes (A, 2), and which of them have one (A,); what
    reached further over the border than `slack` pixels, and what is empty, is counted."""
    limits = sizes[:, ::-1]
    inside = np.concatenate((np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], limits)), axis=1)
    count_problem(
        problems, "boxes reach over the border: cut there", (np.abs(inside - boxes) > slack).any(axis=1).sum()
    )
    small = inside.astype(np.float32)  # as they are kept
    kept = (small[:, 2] > small[:, 0]) & (small[:, 3] > small[:, 1])
    count_problem(problems, "objects have an empty box: left out", (~kept).sum())
    return inside, kept


def count_problem(problems: Counter[str], problem: str, number: Any) -> None:
    """Count what happened `number` times, if it did."""
    if number:
        problems[problem] += int(number)


def _tensor(values: NDArray[Any], dtype: type[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype))
