"""Some of the images of a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from detkit.interfaces import Dataset
from detkit.structures.sample import Sample


class Subset(Dataset):
    """The images at some positions of a dataset, in this order, with their own ids.

    Args:
        dataset: that they are of.
        positions: of the images; each once.
    """

    def __init__(self, dataset: Dataset, positions: Sequence[int]) -> None:
        self.dataset = dataset
        self.positions = list(positions)
        self.categories = dataset.categories
        self.semantic_categories = dataset.semantic_categories
        self.has_panoptic = dataset.has_panoptic
        self.has_masks = dataset.has_masks
        self.rotated = dataset.rotated

    @property
    def has_proposals(self) -> bool:
        return self.dataset.has_proposals

    def __len__(self) -> int:
        return len(self.positions)

    def origin(self, index: int) -> tuple[Dataset, int]:
        """The dataset that an image is of, and its position there."""
        return self.dataset, self.positions[index]

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.positions[index]]

    def size(self, index: int) -> tuple[int, int]:
        return self.dataset.size(self.positions[index])

    def sizes(self) -> Tensor:
        return self.dataset.sizes()[self.positions]

    def image_id(self, index: int) -> int | str:
        return self.dataset.image_id(self.positions[index])

    def labels(self, index: int) -> Tensor:
        return self.dataset.labels(self.positions[index])

    def target(self, index: int) -> dict[str, Any]:
        return self.dataset.target(self.positions[index])

    def annotation_ids(self, index: int) -> Tensor | None:
        return self.dataset.annotation_ids(self.positions[index])

    def place(self, index: int) -> str:
        return self.dataset.place(self.positions[index])

    def encoded(self, index: int) -> bytes:
        return self.dataset.encoded(self.positions[index])

    def ground_truth(self) -> Any:
        """That of the dataset, with these images alone, where it is a COCO-style dict."""
        truth = self.dataset.ground_truth()
        if not isinstance(truth, dict) or "images" not in truth:
            return truth
        head, annotations = self._of_these(truth, truth.get("annotations", ()))
        return {**head, "annotations": list(annotations)}

    def streamed_truth(self) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        return self._of_these(*self.dataset.streamed_truth())

    def _of_these(
        self, head: Mapping[str, Any], annotations: Iterable[dict[str, Any]]
    ) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        """Ground truth of the dataset, with these images alone."""
        ids = [self.image_id(index) for index in range(len(self))]
        images, kept = {entry["id"]: entry for entry in head["images"]}, set(ids)
        these = (entry for entry in annotations if entry["image_id"] in kept)
        return {**head, "images": [images[id] for id in ids]}, these

    def semantic_map(self, image_id: Any) -> Tensor:
        return self.dataset.semantic_map(image_id)

    def panoptic_map(self, image_id: Any) -> tuple[Tensor, list[dict[str, Any]]]:
        return self.dataset.panoptic_map(image_id)
