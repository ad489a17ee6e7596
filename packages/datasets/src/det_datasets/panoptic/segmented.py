"""What readers of panoptic data share: images whose pixels belong to segments."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hotcoco import mask as rle
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors

from det_datasets.annotated import AnnotatedImages
from det_datasets.columns import Columns
from det_datasets.panoptic.classes import PanopticClasses
from det_datasets.panoptic.segments import Segments, things_of
from detkit.structures.batch import UNLABELLED
from detkit.structures.polygons import Polygons
from detkit.structures.semantic_map import SemanticMap


class SegmentedImages(AnnotatedImages):
    """Images of which a map says to which segment each pixel belongs. Segments of things are the objects, with the
    bitmaps that the map gives them; the labels of pixels are those of their segments.

    Args:
        source: what the annotations come from, for messages.
        images: folder that the names of files are relative to.
        columns: all segments as objects without masks: their ids, and their classes as labels, those of things first.
        classes: of things and pixels.
        problems: what was wrong with the annotations, see `Dataset.problems`.
    """

    def __init__(
        self,
        *,
        source: Path,
        images: Path | str,
        columns: Columns,
        classes: PanopticClasses,
        problems: Counter[str],
    ) -> None:
        super().__init__(
            source=source,
            images=images,
            columns=things_of(columns, len(classes.things)),
            categories=classes.things,
            problems=problems,
        )
        self.semantic_categories = classes.pixels
        self.has_panoptic = True
        self.has_masks = True
        self._all = columns
        self._pixel_labels = torch.tensor(classes.pixel_labels)

    @abstractmethod
    def read_ids(self, index: int) -> NDArray[np.int32]:
        """The ids (H, W) of the segments that an image's pixels belong to, 0 where there is none."""

    def target(self, index: int) -> dict[str, Any]:
        """The annotations of one image, as in `Sample.target`, without reading the image: the map of its segments is
        read."""
        target, size = super().target(index), self.size(index)
        ids, segments = self.read_ids(index), Segments.of_image(self._all, index)
        masks = self._masks_of(ids, segments)
        target["polygons"] = Polygons.from_rings([()] * len(masks), size)
        target["masks"] = tv_tensors.Mask(masks)
        target["has_mask"] = torch.ones(len(masks), dtype=torch.bool)
        target["semantic"] = self._semantic(ids, segments)
        return target

    def semantic_map(self, image_id: Any) -> Tensor:
        index = self._index(image_id)
        return self._semantic(self.read_ids(index), Segments.of_image(self._all, index)).as_subclass(Tensor)

    def panoptic_map(self, image_id: Any) -> tuple[Tensor, list[dict[str, Any]]]:
        index = self._index(image_id)
        found = Segments.of_image(self._all, index)
        things = found.classes < len(self.categories)
        labels = torch.where(things, found.classes, self._pixel_labels[found.classes])
        columns = (found.ids, things, labels, found.areas.int(), found.crowd)
        segments = [
            {"id": id, "isthing": thing, "label": label, "area": area, "iscrowd": crowd}
            for id, thing, label, area, crowd in zip(*(column.tolist() for column in columns), strict=True)
        ]
        return torch.from_numpy(self.read_ids(index)), segments

    def _semantic(self, ids: NDArray[np.int32], segments: Segments) -> SemanticMap:
        """The labels (H, W) of pixels: those of their segments."""
        labels = self._pixel_labels[segments.classes]
        # Tables may be as long as ids are large, 2^24, but only the pages of ids that there are come into being: that
        # is why they begin with 0, and labels with 1, of which 1 is taken again: 0 becomes 255, UNLABELLED.
        table = np.zeros(max(ids.max(), segments.ids.max() if len(labels) else 0) + 1, np.uint8)
        table[segments.ids.numpy()] = labels.numpy() + 1
        return SemanticMap(torch.from_numpy(table[ids] + np.uint8(UNLABELLED)))

    def _annotation_entries(self, index: int) -> list[dict[str, Any]]:
        """Masks are RLE, for which the map of the image is read."""
        found = super()._annotation_entries(index)
        if found:
            masks = self._masks_of(self.read_ids(index), Segments.of_image(self._all, index))
            codes = rle.encode(np.asfortranarray(masks.permute(1, 2, 0).numpy()))
            for entry, code in zip(found, codes, strict=True):
                entry["segmentation"] = {**code, "counts": code["counts"].decode()}
        return found

    def _masks_of(self, ids: NDArray[np.int32], segments: Segments) -> Tensor:
        """Masks (N, H, W) uint8 of the things of an image."""
        things = segments.ids[segments.classes < len(self.categories)]
        return (torch.from_numpy(ids) == things.int()[:, None, None]).view(torch.uint8)
