"""Images with LVIS annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from det_datasets.cache import Annotations
from det_datasets.coco.dataset import read_annotations
from det_datasets.coco.ground_truth import IsRead
from det_datasets.coco.variant import CocoVariant
from det_datasets.lvis import layout
from det_datasets.lvis.schema import LvisFile, Names
from det_datasets.lvis.synsets import in_coco
from detkit.data.check import SourceCheck
from detkit.data.stores.store import local_file


class LvisDataset(CocoVariant):
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
        file = local_file(annotations)
        self._named = categories
        super().__init__(
            images=images,
            annotations=file,
            read=partial(_read, file, categories),
            reader="lvis 2",
            arguments={"categories": categories},
            proposals=proposals,
        )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        return layout.find_splits(path)

    @classmethod
    def source_check(cls, arguments: Mapping[str, Any]) -> SourceCheck | None:
        from det_datasets.lvis.check import LvisCheck

        return LvisCheck(cls, arguments)

    def _as_read(self, head: dict[str, Any]) -> IsRead:
        if self._named != "coco":
            return super()._as_read(head)
        ids = in_coco(head)

        def is_read(entry: dict[str, Any]) -> bool:
            entry["category_id"] = ids.get(entry["category_id"])
            return entry["category_id"] is not None

        return is_read


def _read(path: Path, categories: Names) -> Annotations:
    return read_annotations(LvisFile(path, categories))
