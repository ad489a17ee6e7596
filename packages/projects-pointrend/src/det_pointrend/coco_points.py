"""COCO files whose annotations have labelled points."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from det_datasets.coco.dataset import CocoDataset
from det_pointrend.point_annotations import ENTRY, PointAnnotations

PIXEL_CENTRE = 0.5  # a point of the file is the number of a pixel, column and row


class CocoPoints(CocoDataset):
    """A COCO file in which annotations have `point_coords`, the columns and rows of pixels [[x, y], ...], and
    `point_labels`, 1 for those on the object and 0 for others; masks are not needed. The format is that of Cheng et
    al., Pointly-Supervised Instance Segmentation, 2022; `detkit data points` writes it.

    Samples have the points in the middle of these pixels; annotations with fewer than others have more of which nothing
    is known.

    Args:
        images: folder that the file names are relative to; or tar shards, or a URL, as for COCO files.
        annotations: the JSON file, or its URL.

    Raises:
        ValueError: as for COCO files; no annotation has points, ids repeat, or coordinates and labels do not fit.
    """

    layout = "no folder, but the file data.yaml that `detkit data points` writes"

    def __init__(self, images: Path | str, annotations: Path | str) -> None:
        super().__init__(images, annotations)
        self._ids, self._points = _read_points(self.annotation_file)

    @classmethod
    def splits(cls, path: Path) -> None:
        """None: a folder does not tell which of its files to take; a YAML file does, see `detkit data points`."""
        return None

    def target(self, index: int) -> dict[str, Any]:
        rows = torch.searchsorted(self._ids, self.annotation_ids(index))
        points = PointAnnotations(self._points[rows], canvas_size=self.size(index))
        return {**super().target(index), ENTRY: points}


class _Entry(msgspec.Struct, gc=False):
    id: int
    point_coords: list[tuple[float, float]] = []
    point_labels: list[float] = []


class _File(msgspec.Struct):
    annotations: list[msgspec.Raw]


def _read_points(path: Path) -> tuple[Tensor, Tensor]:
    """The ids (A,) of annotations, rising, and their points (A, K, 3)."""
    ids, counts, numbers = array("q"), array("q"), array("f")
    decode = msgspec.json.Decoder(_Entry).decode
    try:
        for raw in msgspec.json.decode(path.read_bytes(), type=_File).annotations:
            entry = decode(raw)
            if len(entry.point_coords) != len(entry.point_labels) or not set(entry.point_labels) <= {-1, 0, 1}:
                raise ValueError(
                    f"annotation {entry.id} has {len(entry.point_coords)} point_coords and the point_labels "
                    f"{entry.point_labels}; a label 0, 1 or -1 for each point is needed"
                )
            ids.append(entry.id)
            counts.append(len(entry.point_labels))
            for (x, y), label in zip(entry.point_coords, entry.point_labels, strict=True):
                numbers.extend((x + PIXEL_CENTRE, y + PIXEL_CENTRE, label))
    except (ValueError, msgspec.DecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    most = max(counts, default=0)
    if not most:
        raise ValueError(f"{path}: no annotation has point_coords; `detkit data points` makes them of masks")
    order, amounts = np.argsort(ids), np.array(counts)
    if len(np.unique(ids)) < len(ids):
        raise ValueError(f"{path}: annotations share an id; each needs one of its own")
    points = np.tile(np.array(PointAnnotations.unknown, np.float32), (len(ids), most, 1))
    points[np.arange(most) < amounts[:, None]] = np.array(numbers, np.float32).reshape(-1, 3)
    return torch.from_numpy(np.array(ids)[order]), torch.from_numpy(points[order])
