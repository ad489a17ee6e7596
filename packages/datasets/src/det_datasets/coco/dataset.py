"""Images with COCO annotations."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import torch
from hotcoco import mask as rle
from torch import Tensor
from torchvision import tv_tensors

from det_datasets.coco import layout
from det_datasets.coco.columns import build_columns
from det_datasets.coco.ground_truth import complete_annotation
from det_datasets.coco.keypoints import find_keypoints, with_enough_keypoints
from det_datasets.coco.pixels import PixelLabels
from det_datasets.coco.schema import read_bytes, read_coco
from detkit.data.image import read_image
from detkit.data.proposals import read_proposals
from detkit.interfaces import Dataset
from detkit.structures.categories import Categories
from detkit.structures.instance_keypoints import InstanceKeypoints
from detkit.structures.polygons import Polygons
from detkit.structures.proposal_boxes import ProposalBoxes
from detkit.structures.sample import Sample

log = logging.getLogger(__name__)


class CocoDataset(Dataset):
    """A COCO instances file and its images, ordered by image id; images without annotations are kept.

    Boxes are cut at the image's border. A missing box is taken from the mask. An annotation whose box is empty is
    left out; one whose mask is unusable keeps its box. What was left out or repaired is counted in `problems` and
    logged. A file in which a `bbox` has five numbers (centre x, y, width, height, degrees counter-clockwise, as in
    Detectron2) is one of rotated boxes, which are not cut.

    Args:
        images: folder that the file names are relative to.
        annotations: the JSON file.
        semantic: folder with the labels of all images' pixels, for semantic and panoptic models; see `PixelLabels`.
        proposals: file of proposals for all images, for models that make none of their own; see
            `detkit.data.proposals`.
        keypoints: what the file does not say, or says otherwise, of its keypoints: `names`, `swaps`, `skeleton`,
            `sigmas`; see `find_keypoints`.
        min_keypoints: images with fewer labelled keypoints are left out; 1 is what keypoint models are trained with.

    Raises:
        ValueError: a file is missing or not COCO, lists no images or categories, or its ids or numbers make no sense.
    """

    layout: ClassVar[str] = layout.LAYOUT

    def __init__(
        self,
        images: Path,
        annotations: Path,
        semantic: Path | None = None,
        proposals: Path | None = None,
        keypoints: Mapping[str, Any] | None = None,
        min_keypoints: int = 0,
    ) -> None:
        self.folder = Path(images)
        self.annotation_file = Path(annotations)
        file = read_coco(self.annotation_file)
        if not file.images:
            raise ValueError(f"{self.annotation_file} lists no images; there is nothing to read")
        if not file.categories:
            raise ValueError(f"{self.annotation_file} defines no categories; at least one is needed")
        self._pixels = None if semantic is None else PixelLabels(Path(semantic))
        self.semantic_categories = None if self._pixels is None else self._pixels.categories
        self.problems: Counter[str] = Counter()
        if min_keypoints:
            file = with_enough_keypoints(file, min_keypoints)
            if not file.images:
                raise ValueError(f"{self.annotation_file} has no image with {min_keypoints} labelled keypoints or more")
        try:
            named = Categories.from_coco([msgspec.structs.asdict(entry) for entry in file.categories])
            self.categories = replace(named, keypoints=find_keypoints(file.categories, keypoints, self.problems))
            self._columns = build_columns(file, self.categories, self.problems)
        except ValueError as error:
            raise ValueError(f"{self.annotation_file}: {error}") from None
        self._proposals = None if proposals is None else read_proposals(Path(proposals))
        if self._proposals is not None:
            self._proposals.require(self._columns.image_ids.tolist())
        self._has_masks = bool(len(self._columns.ring_ends) or len(self._columns.codes))
        self._note_unused_categories()
        for problem, count in self.problems.items():
            log.warning("%s: %d %s", self.annotation_file, count, problem)

    def _note_unused_categories(self) -> None:
        if not len(self._columns.labels):
            return  # a test set, or negatives alone: it is no news that every class is missing
        counts = torch.bincount(self._columns.labels, minlength=len(self.categories))
        unused = [name for name, count in zip(self.categories.names, counts.tolist(), strict=True) if count == 0]
        if unused:
            names = ", ".join(unused[:5]) + (", ..." if len(unused) > 5 else "")
            self.problems[f"categories without annotations: {names}"] = len(unused)

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        return layout.find_splits(path)

    def __len__(self) -> int:
        return len(self._columns.image_ids)

    def size(self, index: int) -> tuple[int, int]:
        height, width = self._columns.sizes[index].tolist()
        return height, width

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self.folder / self._name(index)

    def _name(self, index: int) -> str:
        start, end = _span(self._columns.name_ends, index)
        return self._columns.names[start:end].numpy().tobytes().decode()

    def semantic_map(self, image_id: int) -> Tensor:
        if self._pixels is None:
            return super().semantic_map(image_id)
        index = int(torch.searchsorted(self._columns.image_ids, image_id))
        return self._pixels.read(self._name(index), self.size(index)).as_subclass(Tensor)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        size, path = self.size(index), self.path(index)
        image = tv_tensors.Image(read_image(path, size))
        info = {"image_id": int(self._columns.image_ids[index]), "path": str(path), "original_size": size}
        target = self.target(index)
        if self._pixels is not None:
            target["semantic"] = self._pixels.read(self._name(index), size)
        if self._proposals is not None:
            boxes, target["proposal_scores"] = self._proposals.of_image(int(self._columns.image_ids[index]))
            target["proposals"] = ProposalBoxes(boxes, canvas_size=size)
        return Sample(image=image, target=target, info=info)

    def target(self, index: int) -> dict[str, Any]:
        """The annotations of one image, as in `Sample.target`, without reading the image.

        Where the file has masks at all, `has_mask` (N,) bool says which instances have a usable one.
        """
        size = self.size(index)
        start, end = _span(self._columns.annotation_ends, index)
        target: dict[str, Any] = {
            "boxes": self._boxes(start, end, size),
            "labels": self._columns.labels[start:end].clone(),
            "crowd": self._columns.crowd[start:end].clone(),
        }
        if self.categories.keypoints is not None:
            points = self._columns.keypoints[start:end].clone()
            target["keypoints"] = InstanceKeypoints(points, flipped=self.categories.keypoints.flipped, canvas_size=size)
        if self._has_masks:
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
        spans = [_span(self._columns.code_ends, index) for index in range(start, end)]
        coded = torch.tensor([low < high for low, high in spans], dtype=torch.bool)
        masks = torch.zeros(len(spans) if coded.any() else 0, *size, dtype=torch.uint8)
        for position, (low, high) in enumerate(spans):
            if low < high:
                counts = self._columns.codes[low:high].numpy().tobytes()
                masks[position] = torch.from_numpy(rle.decode({"size": list(size), "counts": counts}))
        return tv_tensors.Mask(masks), coded

    def ground_truth(self) -> dict[str, Any]:
        """The file as a COCO dict, with what evaluators need (`id`, `bbox`, `area`, `iscrowd`) filled in where it is
        missing; annotations without box and mask are not in it, nor images that this dataset does not have."""
        data: dict[str, Any] = msgspec.json.decode(read_bytes(self.annotation_file))
        sizes = dict(zip(self._columns.image_ids.tolist(), self._columns.sizes.tolist(), strict=True))
        data["images"] = [entry for entry in data["images"] if entry["id"] in sizes]
        count = len(self.categories.keypoints or ())
        complete = (
            complete_annotation(entry, *sizes[entry["image_id"]], keypoints=count)
            for entry in data.get("annotations", ())
            if entry["image_id"] in sizes
        )
        data["annotations"] = [entry for entry in complete if entry is not None]
        ids = [entry.get("id") for entry in data["annotations"]]
        if None in ids or len(set(ids)) < len(ids):
            for number, entry in enumerate(data["annotations"], start=1):
                entry["id"] = number
        return data


def _span(ends: Tensor, index: int) -> tuple[int, int]:
    """Where the entries of one row start and end."""
    return int(ends[index - 1]) if index else 0, int(ends[index])
