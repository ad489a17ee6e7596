"""What all readers share: images of a folder whose annotations are columns."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from hotcoco import mask as rle
from torch import Tensor
from torchvision import tv_tensors

from det_datasets.coco.keypoints import PIXEL_CENTRE, description
from det_datasets.columns import MARKS, Columns, Strings, span
from det_datasets.pixels import PixelLabels
from detkit.data.image import decode_image
from detkit.data.proposals import read_proposals
from detkit.data.stores.store import ImageStore, open_store
from detkit.interfaces import Dataset
from detkit.structures.categories import Categories
from detkit.structures.instance_keypoints import InstanceKeypoints
from detkit.structures.polygons import Polygons
from detkit.structures.proposal_boxes import ProposalBoxes
from detkit.structures.sample import Sample

log = logging.getLogger(__name__)


class AnnotatedImages(Dataset):
    """Images with annotations in columns. A reader of a format calls this constructor with what it has read.

    Args:
        source: what the annotations come from, for messages.
        images: folder or tar shards or URL that the names of files are relative to, see `open_store`; or a store.
        columns: the annotations.
        categories: of the objects, with their keypoints.
        problems: what was wrong with the annotations, see `Dataset.problems`.
        pixels: the labels of pixels, if there are.
        proposals: file of proposals for all images; see `detkit.data.proposals`.
    """

    instance_evaluators: ClassVar[Sequence[str]] = ("coco", "diagnosis")

    def __init__(
        self,
        *,
        source: Path,
        images: Path | str | ImageStore,
        columns: Columns,
        categories: Categories,
        problems: Counter[str],
        pixels: PixelLabels | None = None,
        proposals: Path | None = None,
    ) -> None:
        self.folder = images
        self._images = open_store(images)
        self.categories = categories
        self.semantic_categories = None if pixels is None else pixels.categories
        self.problems: Counter[str] = problems
        self._columns = columns
        self._pixels = pixels
        self._proposals = None if proposals is None else read_proposals(Path(proposals))
        if self._proposals is not None:
            if isinstance(columns.image_ids, Strings):
                raise ValueError(f"{proposals}: proposals are of images with numbers, and {source} gives them names")
            self._proposals.require(columns.image_ids.tolist())
        self._positions: dict[str, int] | None = None
        self.has_masks = bool(len(columns.ring_ends) or len(columns.codes))
        self.rotated = columns.boxes.shape[1] == 5
        self._note_unused_categories()
        for problem, count in self.problems.items():
            log.warning("%s: %d %s", source, count, problem)

    def _note_unused_categories(self) -> None:
        if not len(self._columns.labels):
            return  # a test set, or negatives alone: it is no news that every class is missing
        counts = torch.bincount(self._columns.labels, minlength=len(self.categories))
        unused = [name for name, count in zip(self.categories.names, counts.tolist(), strict=True) if count == 0]
        if unused:
            names = ", ".join(unused[:5]) + (", ..." if len(unused) > 5 else "")
            self.problems[f"categories without annotations: {names}"] = len(unused)

    @property
    def has_proposals(self) -> bool:
        return self._proposals is not None

    def __len__(self) -> int:
        return len(self._columns)

    def size(self, index: int) -> tuple[int, int]:
        height, width = self._columns.sizes[index].tolist()
        return height, width

    def sizes(self) -> Tensor:
        return self._columns.sizes.long()

    def image_id(self, index: int) -> int | str:
        return self._columns.image_id(index)

    def labels(self, index: int) -> Tensor:
        start, end = span(self._columns.annotation_ends, index)
        return self._columns.labels[start:end].clone()

    def all_labels(self) -> tuple[Tensor, Tensor]:
        counts = np.diff(self._columns.annotation_ends.numpy(), prepend=0)
        images = np.repeat(np.arange(len(counts)), counts)  # a tenth of what torch's takes
        return torch.from_numpy(images), self._columns.labels.long()

    def place(self, index: int) -> str:
        """Where an image is, see `ImageStore.place`."""
        return self._images.place(self._name(index))

    def encoded(self, index: int) -> bytes:
        """The file of an image as it is. ValueError naming it if it cannot be read."""
        return self._images.read(self._name(index))

    def difficult(self, index: int) -> Tensor:
        """Which objects (N,) bool of an image are difficult: neither finding nor missing them counts."""
        start, end = span(self._columns.annotation_ends, index)
        return self._columns.difficult[start:end].clone()

    def annotation_ids(self, index: int) -> Tensor:
        """The dataset's own ids (N,) int64 of an image's objects."""
        start, end = span(self._columns.annotation_ends, index)
        return self._columns.annotation_ids[start:end].clone()

    def marks(self, index: int) -> Tensor:
        """What else is said of an image's objects, (N,) uint8: sums of `MARKS`."""
        start, end = span(self._columns.annotation_ends, index)
        known = self._columns.marks
        return known[start:end].clone() if len(known) else torch.zeros(end - start, dtype=torch.uint8)

    def _name(self, index: int) -> str:
        return self._columns.names[index]

    def semantic_map(self, image_id: Any) -> Tensor:
        if self._pixels is None:
            return super().semantic_map(image_id)
        index = self._index(image_id)
        return self._pixels.read(self._name(index), self.size(index)).as_subclass(Tensor)

    def _index(self, image_id: Any) -> int:
        """The position of an image."""
        ids = self._columns.image_ids
        if not isinstance(ids, Strings):
            return int(torch.searchsorted(ids, image_id))
        if self._positions is None:
            self._positions = {ids[index]: index for index in range(len(ids))}
        return self._positions[image_id]

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        size, place = self.size(index), self.place(index)
        image = tv_tensors.Image(decode_image(self._images.read(self._name(index)), place, size))
        info = {"image_id": self._columns.image_id(index), "path": place, "original_size": size}
        target = self.target(index)
        if self._pixels is not None:
            target["semantic"] = self._pixels.read(self._name(index), size)
        if self._proposals is not None:
            boxes, target["proposal_scores"] = self._proposals.of_image(int(self._columns.image_id(index)))
            target["proposals"] = ProposalBoxes(boxes, canvas_size=size)
        return Sample(image=image, target=target, info=info)

    def target(self, index: int) -> dict[str, Any]:
        """The annotations of one image, as in `Sample.target`, without reading the image.

        Where the file has masks at all, `has_mask` (N,) bool says which instances have a usable one.
        """
        size = self.size(index)
        start, end = span(self._columns.annotation_ends, index)
        target: dict[str, Any] = {
            "boxes": self._boxes(start, end, size),
            "labels": self._columns.labels[start:end].clone(),
            "crowd": self._columns.crowd[start:end].clone(),
        }
        if self.categories.keypoints is not None:
            points = self._columns.keypoints[start:end].clone()
            target["keypoints"] = InstanceKeypoints(points, flipped=self.categories.keypoints.flipped, canvas_size=size)
        if self.has_masks:
            target["polygons"] = polygons = self._polygons(start, end, size)
            masks, coded = self._masks(start, end, size)
            if coded.any():
                target["masks"] = masks
            target["has_mask"] = polygons.present | coded
        return target

    def _boxes(self, start: int, end: int, size: tuple[int, int]) -> tv_tensors.BoundingBoxes:
        boxes = self._columns.boxes[start:end].clone()
        if boxes.shape[1] == 5:
            return tv_tensors.BoundingBoxes(boxes, format="CXCYWHR", canvas_size=size, clamping_mode=None)
        return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)

    def _polygons(self, start: int, end: int, size: tuple[int, int]) -> Polygons:
        columns = self._columns
        first_ring = int(columns.rings_of[start - 1]) if start else 0
        instance_ends = columns.rings_of[start:end] - first_ring
        rings = columns.ring_ends[first_ring : int(columns.rings_of[end - 1]) if end > start else first_ring]
        first_point = int(columns.ring_ends[first_ring - 1]) if first_ring else 0
        points = columns.points[first_point : int(rings[-1]) if len(rings) else first_point]
        return Polygons(
            points.clone(),
            ring_ends=(rings - first_point).numpy(),
            instance_ends=instance_ends.numpy(),
            canvas_size=size,
        )

    def _masks(self, start: int, end: int, size: tuple[int, int]) -> tuple[tv_tensors.Mask, Tensor]:
        """Masks (N, H, W) of the instances that are given as RLE, zeros for others; and which those are (N,)."""
        first = int(self._columns.code_ends[start - 1]) if start else 0
        spans = list(pairwise((first, *self._columns.code_ends[start:end].tolist())))
        coded = torch.tensor([low < high for low, high in spans], dtype=torch.bool)
        masks = torch.zeros(len(spans) if coded.any() else 0, *size, dtype=torch.uint8)
        for position, (low, high) in enumerate(spans):
            if low < high:
                counts = self._columns.codes[low:high].numpy().tobytes()
                masks[position] = torch.from_numpy(rle.decode({"size": list(size), "counts": counts}))
        return tv_tensors.Mask(masks), coded

    def ground_truth(self) -> Any:
        """A COCO dict with the dataset's own ids. An object without mask has no `segmentation`; one that is difficult
        has `ignore` 1; `truncated` and `occluded` are 0 or 1 where the format says so."""
        head, annotations = self.streamed_truth()
        return {**head, "annotations": list(annotations)}

    def streamed_truth(self) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        images = []
        for index in range(len(self)):
            height, width = self.size(index)
            entry = {"id": self.image_id(index), "file_name": self._name(index), "height": height, "width": width}
            images.append(entry)
        annotations = chain.from_iterable(map(self._annotation_entries, range(len(self))))
        return {"images": images, "categories": self._category_entries()}, annotations

    def _annotation_entries(self, index: int) -> list[dict[str, Any]]:
        """The annotations of an image as COCO has them."""
        columns, count = self._columns, len(self.categories.keypoints or ())
        size, image_id = self.size(index), self.image_id(index)
        start, end = span(columns.annotation_ends, index)
        names = ("annotation_ids", "labels", "boxes", "areas", "crowd", "difficult")
        values = (getattr(columns, name)[start:end].tolist() for name in names)
        found = []
        for row, (id, label, box, area, crowd, difficult) in enumerate(zip(*values, strict=True), start):
            entry: dict[str, Any] = {
                "id": id,
                "image_id": image_id,
                "category_id": self.categories.ids[label],
                "bbox": _as_coco(box),
                "area": area,
                "iscrowd": int(crowd),
            }
            if difficult:
                entry["ignore"] = 1
            if len(columns.marks):
                entry |= {name: int(bool(columns.marks[row] & bit)) for name, bit in MARKS.items()}
            if segmentation := self._segmentation(row, *size):
                entry["segmentation"] = segmentation
            if count:
                points = columns.keypoints[row].clone()
                points[points[:, 2] > 0, :2] -= PIXEL_CENTRE
                entry["keypoints"] = points.flatten().tolist()
                entry["num_keypoints"] = int((points[:, 2] > 0).sum())
            found.append(entry)
        return found

    def _segmentation(self, row: int, height: int, width: int) -> Any:
        """An object's mask as COCO has it; None if there is none."""
        columns = self._columns
        low, high = span(columns.code_ends, row)
        if low < high:
            return {"size": [height, width], "counts": columns.codes[low:high].numpy().tobytes().decode()}
        first, last = span(columns.rings_of, row)
        rings = [columns.points[slice(*span(columns.ring_ends, ring))] for ring in range(first, last)]
        return [ring.flatten().tolist() for ring in rings] or None

    def _category_entries(self) -> list[dict[str, Any]]:
        categories = self.categories
        entries: list[dict[str, Any]] = [
            {"id": id, "name": name} for id, name in zip(categories.ids, categories.names, strict=True)
        ]
        for entry, group in zip(entries, categories.supercategories or ("",) * len(entries), strict=True):
            if group:
                entry["supercategory"] = group
            if categories.keypoints is not None:
                entry |= description(categories.keypoints)
        return entries


def _as_coco(box: list[float]) -> list[float]:
    """A box in COCO's form: x, y, width, height; rotated ones as they are."""
    return box if len(box) == 5 else [box[0], box[1], box[2] - box[0], box[3] - box[1]]
