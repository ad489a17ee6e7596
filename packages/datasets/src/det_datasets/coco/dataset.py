"""Images with COCO annotations."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from det_datasets.annotated import AnnotatedImages
from det_datasets.coco import layout
from det_datasets.coco.columns import build_columns
from det_datasets.coco.ground_truth import complete_annotation
from det_datasets.coco.keypoints import find_keypoints, with_enough_keypoints
from det_datasets.coco.schema import read_bytes, read_coco
from det_datasets.pixels import PixelLabels
from detkit.structures.categories import Categories

log = logging.getLogger(__name__)


class CocoDataset(AnnotatedImages):
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
        self.annotation_file = Path(annotations)
        file = read_coco(self.annotation_file)
        if not file.images:
            raise ValueError(f"{self.annotation_file} lists no images; there is nothing to read")
        if not file.categories:
            raise ValueError(f"{self.annotation_file} defines no categories; at least one is needed")
        problems: Counter[str] = Counter()
        if min_keypoints:
            file = with_enough_keypoints(file, min_keypoints)
            if not file.images:
                raise ValueError(f"{self.annotation_file} has no image with {min_keypoints} labelled keypoints or more")
        try:
            named = Categories.from_coco([msgspec.structs.asdict(entry) for entry in file.categories])
            categories = replace(named, keypoints=find_keypoints(file.categories, keypoints, problems))
            columns = build_columns(file, categories, problems)
        except ValueError as error:
            raise ValueError(f"{self.annotation_file}: {error}") from None
        super().__init__(
            source=self.annotation_file,
            images=Path(images),
            columns=columns,
            categories=categories,
            problems=problems,
            pixels=None if semantic is None else PixelLabels(Path(semantic)),
            proposals=proposals,
        )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        return layout.find_splits(path)

    def ground_truth(self) -> dict[str, Any]:
        """The file as a COCO dict, with what evaluators need (`id`, `bbox`, `area`, `iscrowd`) filled in where it is
        missing; annotations without box and mask are not in it, nor images that this dataset does not have."""
        data: dict[str, Any] = msgspec.json.decode(read_bytes(self.annotation_file))
        sizes = {self._columns.image_id(index): self.size(index) for index in range(len(self))}
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
