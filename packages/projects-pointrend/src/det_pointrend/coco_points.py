"""COCO files whose annotations have labelled points."""

from __future__ import annotations

from array import array
from itertools import chain
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
        semantic: folder with the labels of all images' pixels, see `det_datasets.pixels.PixelLabels`.
        proposals: file of proposals for all images, see `detkit.data.proposals`.

    Raises:
        ValueError: as for COCO files; no annotation has points, ids repeat, or coordinates and labels do not fit.
    """

    layout = "no folder, but the file data.yaml that `detkit data points` writes"

    def __init__(
        self,
        images: Path | str,
        annotations: Path | str,
        semantic: Path | None = None,
        proposals: Path | None = None,
    ) -> None:
        super().__init__(images, annotations, semantic, proposals)
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
    ids, amounts, places, known = array("q"), array("q"), array("f"), array("f")
    decode = msgspec.json.Decoder(_Entry).decode
    try:
        for raw in msgspec.json.decode(path.read_bytes(), type=_File).annotations:
            entry = decode(raw)
            if len(entry.point_coords) != len(entry.point_labels):
                raise _misfit(entry.id, f"{len(entry.point_coords)} point_coords, {len(entry.point_labels)} labels")
            ids.append(entry.id)
            amounts.append(len(entry.point_labels))
            places.extend(chain.from_iterable(entry.point_coords))
            known.extend(entry.point_labels)
        labels, counts = np.array(known, np.float32), np.array(amounts)
        if not (usable := np.isin(labels, (-1, 0, 1))).all():
            first = int(usable.argmin())
            row = int(np.searchsorted(counts.cumsum(), first, side="right"))
            raise _misfit(ids[row], f"the label {labels[first]:g} of a point")
    except (ValueError, msgspec.DecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    most = int(counts.max(initial=0))
    if not most:
        raise ValueError(f"{path}: no annotation has point_coords; `detkit data points` makes them of masks")
    order = np.argsort(ids)
    if len(np.unique(ids)) < len(ids):
        raise ValueError(f"{path}: annotations share an id; each needs one of its own")
    points = np.tile(np.array(PointAnnotations.unknown, np.float32), (len(ids), most, 1))
    given = np.column_stack([np.array(places, np.float32).reshape(-1, 2) + np.float32(PIXEL_CENTRE), labels])
    points[np.arange(most) < counts[:, None]] = given
    return torch.from_numpy(np.array(ids)[order]), torch.from_numpy(points[order])


def _misfit(id: int, what: str) -> ValueError:
    return ValueError(f"annotation {id} has {what}; for each point x and y and a label 0, 1 or -1 are needed")
