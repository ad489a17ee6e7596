"""Datasets in the form that Detectron2's users write them in: a list of dicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from det_datasets.annotated import AnnotatedImages
from det_datasets.pixels import PixelLabels, read_values
from det_datasets.records.columns import build_columns, ordered
from detkit.data.proposals import proposal_table
from detkit.structures.batch import UNLABELLED
from detkit.structures.categories import Categories
from detkit.structures.semantic_map import SemanticMap


class Records(AnnotatedImages):
    """A list of dicts, one for each image, as functions registered in Detectron2's `DatasetCatalog` return it. It comes
    from Python code: `detkit.train(..., data=RECORDS, categories=NAMES)`; nothing has to be downloaded.

    Of a dict are read `file_name`, `height`, `width`; `image_id`, a number or text, by default the position in the
    list; `annotations`, each with `bbox`, `bbox_mode`, `category_id` from 0, and perhaps `segmentation` (polygons or
    RLE), `keypoints` (in the plane, as Detectron2 has them: pixels' centres at halves) and `iscrowd`;
    `sem_seg_file_name`, if `semantic_categories` are given; `proposal_boxes`, `proposal_objectness_logits` and
    `proposal_bbox_mode`. One box of five numbers makes all boxes rotated. `pan_seg_file_name` is not read: `problems`
    counts it. Other keys are not looked at.

    Args:
        records: the dicts.
        categories: the classes in the order of `category_id`: names, or `Categories`, which can also say what keypoints
            are called.
        images: folder, or address, that file names which are not absolute start from.
        semantic_categories: names of the classes in the files `sem_seg_file_name`, label 0 first.

    Raises:
        ValueError: something is missing from a dict, or makes no sense; the message names the image.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        categories: Categories | Sequence[str],
        images: Path | str = Path(),
        semantic_categories: Sequence[str] = (),
    ) -> None:
        if not records:
            raise ValueError("the list of dicts is empty; there is nothing to read")
        problems: Counter[str] = Counter()
        named = categories if isinstance(categories, Categories) else Categories(tuple(categories))
        if isinstance(categories, str) or not len(named):
            raise ValueError(f"categories is {categories!r}; the names of the classes are needed, label 0 first")
        entries = ordered(records)
        _note_unread(records, problems, pixels=bool(semantic_categories))
        pixels = _LabelFiles(entries, Path(images), semantic_categories) if semantic_categories else None
        super().__init__(
            source=Path("list of dicts"),
            images=images,
            columns=build_columns(entries, named, problems),
            categories=named,
            problems=problems,
            pixels=pixels,
        )
        if any("proposal_boxes" in record for _, record in entries):
            self._proposals = proposal_table(Path("list of dicts"), _proposals(entries))


def _note_unread(records: Sequence[Mapping[str, Any]], problems: Counter[str], *, pixels: bool) -> None:
    """Count the files that are named and not read.

    Raises:
        ValueError: objects come from panoptic segments alone.
    """
    named = {key: [each for each in records if key in each] for key in ("sem_seg_file_name", "pan_seg_file_name")}
    if panoptic := named["pan_seg_file_name"]:
        if not any("annotations" in record for record in records):
            raise ValueError(
                f"{panoptic[0]['file_name']} has pan_seg_file_name and segments_info instead of annotations, which "
                "cannot be read from dicts; the dataset reader 'coco-panoptic' reads the JSON file and the pictures"
            )
        problems["have pan_seg_file_name, which is not read from dicts (the reader 'coco' has `panoptic`)"] = len(
            panoptic
        )
    if named["sem_seg_file_name"] and not pixels:
        problems[
            "have sem_seg_file_name, which is not read without the names of its classes; give "
            "Records(..., semantic_categories=NAMES) as data"
        ] = len(named["sem_seg_file_name"])


class _LabelFiles(PixelLabels):
    """Labels of pixels in files of any name.

    Args:
        records: with the ids of their images.
        folder: that names of files start from.
        classes: names.
    """

    def __init__(
        self, records: Sequence[tuple[int | str, Mapping[str, Any]]], folder: Path, classes: Sequence[str]
    ) -> None:
        if missing := [record for _, record in records if "sem_seg_file_name" not in record]:
            raise ValueError(
                f"{missing[0]['file_name']} has no sem_seg_file_name, as {len(missing)} of {len(records)} images; with "
                "`semantic_categories` each needs one"
            )
        self.folder = folder
        self.categories = Categories(tuple(classes))
        self._files = {str(record["file_name"]): str(record["sem_seg_file_name"]) for _, record in records}

    def read(self, name: str, size: tuple[int, int]) -> SemanticMap:
        path = self.folder / self._files[name]
        values = read_values(path, size, ("L", "P"), "labels are grey values or palette indices (L, P)")
        unknown = values[(values >= len(self.categories)) & (values != UNLABELLED)]
        if len(unknown):
            raise ValueError(
                f"{path} has pixels with label {unknown[0]}; semantic_categories names labels 0 to "
                f"{len(self.categories) - 1}"
            )
        return SemanticMap(torch.from_numpy(values))


def _proposals(records: Sequence[tuple[int | str, Mapping[str, Any]]]) -> dict[str, Any]:
    """As in a file of Detectron2."""
    if isinstance(records[0][0], str):
        raise ValueError("images with proposals need numbers as their image_id")
    if missing := [record for _, record in records if "proposal_boxes" not in record]:
        raise ValueError(f"{missing[0]['file_name']} has no proposal_boxes, which others have")
    modes = {int(record.get("proposal_bbox_mode", 0)) for _, record in records}
    if len(modes) > 1:
        raise ValueError("proposal_bbox_mode must be the same for all images")
    return {
        "ids": [id for id, _ in records],
        "boxes": [record["proposal_boxes"] for _, record in records],
        "objectness_logits": [record["proposal_objectness_logits"] for _, record in records],
        "bbox_mode": modes.pop(),
    }
