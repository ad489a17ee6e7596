"""What readers share of formats that are COCO's but for their images or their categories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from det_datasets.annotated import AnnotatedImages
from det_datasets.cache import Annotations, cached
from det_datasets.coco.ground_truth import IsRead, stream_truth


class CocoVariant(AnnotatedImages):
    """A JSON file in a form that is close to COCO's, and its images.

    Args:
        images: see `AnnotatedImages`.
        annotations: the JSON file.
        read: what the file says, see `det_datasets.cache.cached`.
        reader: name and version of the rules by which it is read, for the cache.
        arguments: what else `read` depends on, for the cache.
        proposals: see `AnnotatedImages`.
    """

    def __init__(
        self,
        *,
        images: Path | str,
        annotations: Path,
        read: Callable[[], Annotations],
        reader: str,
        arguments: Mapping[str, Any],
        proposals: Path | None,
    ) -> None:
        self.annotation_file = annotations
        found = cached(read, reader=reader, sources=[annotations], arguments=arguments)
        super().__init__(
            source=annotations,
            images=images,
            columns=found.columns,
            categories=found.categories,
            problems=found.problems,
            proposals=proposals,
        )

    def streamed_truth(self) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        """The file, completed as that of `CocoDataset`. Images and categories have whatever the file says of them, and
        their names here."""
        places = {self._columns.image_id(index): index for index in range(len(self))}
        sizes = {id: self.size(index) for id, index in places.items()}
        head, annotations = stream_truth(self.annotation_file, sizes, as_read=self._as_read)
        for image in head["images"]:
            image["file_name"] = self._name(places[image["id"]])
        for entry in head["categories"]:
            entry["name"] = self.categories.names[self.categories.label_of_id(entry["id"])]
        return head, annotations

    def _as_read(self, head: dict[str, Any]) -> IsRead:
        """Change what the file holds besides annotations to what is read of it; see `stream_truth`."""
        return lambda entry: True
