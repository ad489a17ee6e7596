"""Images with Objects365 annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, get_args

import msgspec

from det_datasets.annotated import AnnotatedImages
from det_datasets.cache import Annotations, cached
from det_datasets.coco.dataset import read_annotations
from det_datasets.coco.ground_truth import complete_truth
from det_datasets.coco.schema import read_bytes
from det_datasets.objects365 import layout
from det_datasets.objects365.schema import Doubt, Objects365File, is_any
from detkit.data.stores.store import local_file


class Objects365Dataset(AnnotatedImages):
    """Objects365 (Shao et al., 2019): boxes of 365 classes in 600,000 (v1) or 1.7 million (v2) images.

    To download (https://www.objects365.org/download.html; annotations CC BY 4.0, images for academic purposes, under
    the terms of their owners): zhiyuan_objv2_train.tar.gz and zhiyuan_objv2_val.json, and the archives patch0 to
    patch50 of train, patch0 to patch43 of val, to be unpacked in train/ and val/.

    Boxes and what is wrong with them are as in COCO's files, see `CocoDataset`. Three images that v2 lists are in none
    of the archives; they are left out, and counted in `problems`.

    Args:
        images: folder, tar shards or URL with patch0/, patch1/, ...; in a folder they may also lie in images/v1/,
            images/v2/, or all images together; see `detkit.data.stores.store.open_store`.
        annotations: the JSON file, or its URL.
        without: kinds of objects that are left out: "fake", pictures and statues, "reflected", in mirrors. By default
            they count like others.
        proposals: file of proposals for all images; see `detkit.data.proposals`.

    Raises:
        ValueError: a file is missing or not in this format, lists no images or categories, or its ids or numbers make
            no sense.
    """

    layout: ClassVar[str] = layout.LAYOUT

    def __init__(
        self,
        images: Path | str,
        annotations: Path | str,
        without: Sequence[Doubt] = (),
        proposals: Path | None = None,
    ) -> None:
        if unknown := sorted(set(without) - set(get_args(Doubt))):
            raise ValueError(f"without has {', '.join(unknown)}; there are {', '.join(get_args(Doubt))}")
        self.annotation_file = local_file(annotations)
        self._without = tuple(sorted(without))
        parts = layout.parts_of_names(images)
        found = cached(
            partial(_read, self.annotation_file, parts, self._without),
            reader="objects365 1",
            sources=[self.annotation_file],
            arguments={"parts": parts, "without": self._without},
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
        """The file as a COCO dict, completed as that of `CocoDataset`, with the names of files here."""
        data: dict[str, Any] = msgspec.json.decode(read_bytes(self.annotation_file))
        data["annotations"] = [
            entry
            for entry in data.get("annotations", ())
            if not is_any(self._without, entry.get("isfake", 0), entry.get("isreflected", 0))
        ]
        places = {self._columns.image_id(index): index for index in range(len(self))}
        data = complete_truth(data, {id: self.size(index) for id, index in places.items()})
        for image in data["images"]:
            image["file_name"] = self._name(places[image["id"]])
        return data


def _read(path: Path, parts: int, without: Sequence[Doubt]) -> Annotations:
    file = Objects365File(path, parts, without)
    found = read_annotations(file)
    if file.missing:
        found.problems["images are in none of the archives: left out"] = file.missing
    return found
