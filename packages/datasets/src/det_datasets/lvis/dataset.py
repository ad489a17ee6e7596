"""Images with LVIS annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from det_datasets.annotated import AnnotatedImages
from det_datasets.cache import Annotations, cached
from det_datasets.coco.dataset import read_annotations
from det_datasets.coco.ground_truth import complete_truth
from det_datasets.coco.schema import read_bytes
from det_datasets.lvis import layout
from det_datasets.lvis.schema import LvisFile, Names
from det_datasets.lvis.synsets import in_coco
from detkit.data.stores.store import local_file


class LvisDataset(AnnotatedImages):
    """LVIS, large vocabulary instance segmentation (Gupta, Dollar, Girshick, 2019): 1,203 classes (v1) or 1,230 (v0.5)
    of objects in COCO's images, few, some or many of each.

    To download: lvis_v1_train.json.zip and lvis_v1_val.json.zip (https://www.lvisdataset.org/dataset; annotations CC BY
    4.0), and COCO's train2017.zip and val2017.zip (https://cocodataset.org/#download; under Flickr's terms of use).
    Images of the split val lie in both folders.

    Of each image it is known that some classes are absent (`neg_category_ids`), and of some that not all objects are
    annotated (`not_exhaustive_category_ids`); of all other classes without objects, nothing. The evaluator `lvis` takes
    that from `ground_truth`. Boxes, masks and what is wrong with them are as in COCO's files, see `CocoDataset`.

    Args:
        images: folder, tar shards or URL with train2017/ and val2017/; see `detkit.data.stores.store.open_store`.
        annotations: the JSON file, or its URL.
        categories: "lvis", those of the file; "coco", COCO's 80, by their synsets: all other annotations are left out.
            Such "cocofied" annotations measure models for COCO on LVIS's masks, which are more exact.
        proposals: file of proposals for all images; see `detkit.data.proposals`.

    Raises:
        ValueError: a file is missing or not in this format, lists no images or categories, or its ids or numbers make
            no sense.
    """

    layout: ClassVar[str] = layout.LAYOUT
    instance_evaluators: ClassVar[Sequence[str]] = ("lvis", "diagnosis")

    def __init__(
        self,
        images: Path | str,
        annotations: Path | str,
        categories: Names = "lvis",
        proposals: Path | None = None,
    ) -> None:
        if categories not in ("lvis", "coco"):
            raise ValueError(f"categories is {categories!r}; there are 'lvis' and 'coco'")
        self.annotation_file = local_file(annotations)
        self._named = categories
        found = cached(
            partial(_read, self.annotation_file, categories),
            reader="lvis 1",
            sources=[self.annotation_file],
            arguments={"categories": categories},
        )
        super().__init__(
            source=self.annotation_file,
            images=images,
            columns=found.columns,
            categories=found.categories,
            problems=found.problems,
            proposals=proposals,
        )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        return layout.find_splits(path)

    def ground_truth(self) -> dict[str, Any]:
        """The file as a COCO dict, completed as that of `CocoDataset`. Images and categories have whatever LVIS says of
        them, and their names here."""
        data: dict[str, Any] = msgspec.json.decode(read_bytes(self.annotation_file))
        if self._named == "coco":
            data = in_coco(data)
        places = {self._columns.image_id(index): index for index in range(len(self))}
        data = complete_truth(data, {id: self.size(index) for id, index in places.items()})
        for image in data["images"]:
            image["file_name"] = self._name(places[image["id"]])
        for entry in data["categories"]:
            entry["name"] = self.categories.names[self.categories.label_of_id(entry["id"])]
        return data


def _read(path: Path, categories: Names) -> Annotations:
    return read_annotations(LvisFile(path, categories))
