"""Images with Objects365 annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, get_args

from det_datasets.cache import Annotations
from det_datasets.coco.dataset import read_annotations
from det_datasets.coco.ground_truth import IsRead
from det_datasets.coco.variant import CocoVariant
from det_datasets.objects365 import layout
from det_datasets.objects365.schema import NOT_THERE, Doubt, Objects365File, is_left_out
from detkit.data.check import SourceCheck
from detkit.data.stores.store import local_file


class Objects365Dataset(CocoVariant):
    """Objects365 (Shao et al., 2019): boxes of 365 classes in 600,000 (v1) or 1.7 million (v2) images.

    To download (https://www.objects365.org/download.html; for academic purposes only, annotations CC BY 4.0, images
    under Flickr's terms of use): zhiyuan_objv2_train.tar.gz and zhiyuan_objv2_val.json, and the archives patch0 to
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
        file, parts = local_file(annotations), layout.parts_of_names(images)
        self._without = tuple(sorted(without))
        super().__init__(
            images=images,
            annotations=file,
            read=partial(_read, file, parts, self._without),
            reader="objects365 2",
            arguments={"parts": parts, "without": self._without},
            proposals=proposals,
        )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        return layout.find_splits(path)

    @classmethod
    def source_check(cls, arguments: Mapping[str, Any]) -> SourceCheck | None:
        from det_datasets.objects365.check import Objects365Check

        return Objects365Check(cls, arguments)

    def _as_read(self, head: dict[str, Any]) -> IsRead:
        return lambda entry: not is_left_out(self._without, entry)


def _read(path: Path, parts: int, without: Sequence[Doubt]) -> Annotations:
    file = Objects365File(path, parts, without)
    found = read_annotations(file)
    if file.missing:
        found.problems[NOT_THERE] = file.missing
    return found
