"""Images with COCO annotations."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from torch import Tensor

from det_datasets.annotated import AnnotatedImages
from det_datasets.cache import Annotations, cached
from det_datasets.coco import layout
from det_datasets.coco.columns import build_columns
from det_datasets.coco.ground_truth import stream_truth
from det_datasets.coco.keypoints import description, find_keypoints
from det_datasets.coco.schema import CocoFile
from det_datasets.columns import Strings
from det_datasets.panoptic.truth import PanopticTruth
from det_datasets.pixels import PixelLabels
from detkit.data.check import SourceCheck
from detkit.data.stores.store import local_file, local_folder
from detkit.structures.categories import Categories

log = logging.getLogger(__name__)


class CocoDataset(AnnotatedImages):
    """A COCO instances file and its images, ordered by image id; images without annotations are kept.

    Boxes are cut at the image's border. A missing box is taken from the mask. An annotation whose box is empty is
    left out; one whose mask is unusable keeps its box. What was left out or repaired is counted in `problems` and
    logged. A file in which a `bbox` has five numbers (centre x, y, width, height, degrees counter-clockwise, as in
    Detectron2) is one of rotated boxes, which are not cut.

    An annotation with `ignore`, which COCO's own files have not, is difficult: it is trained with, and evaluators
    neither ask for it nor count as wrong what finds it. A category may have `sigmas` and `swaps` of its keypoints.

    Args:
        images: folder that the file names are relative to; or tar shards, or a URL, see
            `detkit.data.stores.store.open_store`.
        annotations: the JSON file, or its URL.
        semantic: folder with the labels of all images' pixels, for semantic and panoptic models; see `PixelLabels`.
        proposals: file of proposals for all images, for models that make none of their own; see
            `detkit.data.proposals`.
        keypoints: what the file does not say, or says otherwise, of its keypoints: `names`, `swaps`, `skeleton`,
            `sigmas`; see `find_keypoints`.
        min_keypoints: images with fewer labelled keypoints are left out; 1 is what keypoint models are trained with.
        panoptic: folder of the PNG files of `panoptic_annotations`.
        panoptic_annotations: panoptic JSON file of the same images, or its URL, to evaluate panoptic models with.
            `semantic` then needs no names: its classes are all things together and the stuff of this file.

    Raises:
        ValueError: a file is missing or not COCO, lists no images or categories, or its ids or numbers make no sense.
    """

    layout: ClassVar[str] = layout.LAYOUT

    def __init__(
        self,
        images: Path | str,
        annotations: Path | str,
        semantic: Path | None = None,
        proposals: Path | None = None,
        keypoints: Mapping[str, Any] | None = None,
        min_keypoints: int = 0,
        panoptic: Path | None = None,
        panoptic_annotations: Path | str | None = None,
    ) -> None:
        if (panoptic is None) != (panoptic_annotations is None):
            raise ValueError("panoptic and panoptic_annotations belong together; give both or neither")
        self.annotation_file = local_file(annotations)
        found = cached(
            partial(_read, self.annotation_file, keypoints, min_keypoints),
            reader="coco 2",
            sources=[self.annotation_file],
            arguments={"keypoints": keypoints, "min_keypoints": min_keypoints},
        )
        truth = None
        if panoptic is not None and panoptic_annotations is not None:
            truth = PanopticTruth(local_file(panoptic_annotations), local_folder(panoptic))
            truth.require(found.categories)
        super().__init__(
            source=self.annotation_file,
            images=images,
            columns=found.columns,
            categories=found.categories,
            problems=found.problems,
            pixels=_pixel_labels(semantic, truth),
            proposals=proposals,
        )
        self._truth = truth
        self._said_keypoints = bool(keypoints)
        self.has_panoptic = truth is not None

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        return layout.find_splits(path)

    @classmethod
    def source_check(cls, arguments: Mapping[str, Any]) -> SourceCheck | None:
        from det_datasets.coco.check import CocoCheck

        return CocoCheck(cls, arguments) if cls is CocoDataset else None  # others have other files

    def panoptic_map(self, image_id: Any) -> tuple[Tensor, list[dict[str, Any]]]:
        if self._truth is None:
            return super().panoptic_map(image_id)
        return self._truth.map(image_id, self.size(self._index(image_id)))

    def ground_truth(self) -> dict[str, Any]:
        """The file as a COCO dict, with what evaluators need (`id`, `bbox`, `area`, `iscrowd`) filled in where it is
        missing; annotations without box and mask are not in it, nor images that this dataset does not have."""
        head, annotations = self.streamed_truth()
        return {**head, "annotations": list(annotations)}

    def streamed_truth(self) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        ids = self._columns.image_ids
        assert not isinstance(ids, Strings)
        sizes = dict(zip(ids.tolist(), map(tuple, self._columns.sizes.tolist()), strict=True))
        head, annotations = stream_truth(self.annotation_file, sizes, keypoints=len(self.categories.keypoints or ()))
        if self._said_keypoints and self.categories.keypoints is not None:
            described = [entry for entry in head["categories"] if entry.get("keypoints")]
            for entry in described or head["categories"]:
                entry.pop("sigmas", None)
                entry |= description(self.categories.keypoints)
        return head, annotations


def _pixel_labels(folder: Path | None, truth: PanopticTruth | None) -> PixelLabels | None:
    if folder is None:
        if truth is not None:
            raise ValueError(
                f"{truth.annotation_file} is for models that learn labels of pixels too; give `semantic` as well "
                "(`detkit data make panoptic-stuff` writes it), or read it with 'coco-panoptic'"
            )
        return None
    return PixelLabels(Path(folder)) if truth is None else truth.pixel_labels(Path(folder))


def _read(path: Path, keypoints: Mapping[str, Any] | None, min_keypoints: int) -> Annotations:
    return read_annotations(CocoFile(path), keypoints, min_keypoints)


def read_annotations(file: CocoFile, keypoints: Mapping[str, Any] | None = None, min_keypoints: int = 0) -> Annotations:
    """What a file says; see `CocoDataset`. For other formats that are COCO's but for their images or categories, too.

    Raises:
        ValueError: it lists no images or categories, or its ids or numbers make no sense.
    """
    path, problems = file.path, Counter[str]()
    if not file.images:
        raise ValueError(f"{path} lists no images; there is nothing to read")
    if not file.categories:
        raise ValueError(f"{path} defines no categories; at least one is needed")
    try:
        named = Categories.from_coco([msgspec.structs.asdict(entry) for entry in file.categories])
        categories = replace(named, keypoints=find_keypoints(file.categories, keypoints, problems))
        columns = build_columns(file, categories, problems, min_keypoints=min_keypoints)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Annotations(columns, categories, problems)
