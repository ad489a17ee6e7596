"""The contract of dataset writers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from detkit.config import build
from detkit.data.source import find_splits
from detkit.interfaces import Dataset, DatasetWriter
from detkit.plugins import registry
from detkit.testing.base import ContractBase


class DatasetWriterContract(ContractBase, contract=True):
    """Tests that a dataset writer passes. The subclass sets `name`, that of the component, and writes datasets to
    convert.

    Class attributes for the subclass to set:

        arguments      of the component
        box_tolerance  pixels that a side of a box may move; None where the format has no boxes
    """

    name: ClassVar[str]
    arguments: ClassVar[Mapping[str, Any]] = {}
    box_tolerance: ClassVar[float | None] = 0.01

    def make(self, folder: Path) -> Mapping[str, Dataset]:
        """Write datasets into an empty folder and open them: "train" and "val", with at least two classes."""
        raise NotImplementedError

    @pytest.fixture
    def datasets(self, tmp_path: Path) -> Mapping[str, Dataset]:
        """What `make` makes."""
        (tmp_path / "from").mkdir()
        return self.make(tmp_path / "from")

    @pytest.fixture
    def written(self, datasets: Mapping[str, Dataset], tmp_path: Path) -> Mapping[str, Dataset]:
        """What a reader makes of the files."""
        out = tmp_path / "to"
        out.mkdir()
        self.writer().write(datasets, out)
        return {name: split.open() for name, split in find_splits(out).items()}

    def writer(self) -> DatasetWriter:
        """A new writer."""
        return build({"name": self.name, **self.arguments}, DatasetWriter)

    def test_is_a_component(self) -> None:
        """The component is a class that implements the interface."""
        assert issubclass(registry().load("dataset_writer", self.name), DatasetWriter)

    def test_is_found_with_its_splits(self, datasets: Mapping[str, Dataset], written: Mapping[str, Dataset]) -> None:
        """A reader knows the folder, by the names of the splits that it had, with as many images of the same sizes."""
        assert datasets.keys() <= written.keys()
        for name, dataset in datasets.items():
            assert sorted(written[name].sizes().tolist()) == sorted(dataset.sizes().tolist())

    def test_images_are_the_same(self, datasets: Mapping[str, Dataset], written: Mapping[str, Dataset]) -> None:
        """All images can be read, and look like those that they were."""
        for name, dataset in datasets.items():
            means = [_mean(each, index) for each in (dataset, written[name]) for index in range(len(each))]
            before, after = torch.tensor(means).reshape(2, -1, 3)
            assert torch.allclose(before.sort(0).values, after.sort(0).values, atol=2)

    def test_objects_keep_their_classes_and_boxes(
        self, datasets: Mapping[str, Dataset], written: Mapping[str, Dataset]
    ) -> None:
        """Every object but crowds is there, under the name of its class, at its place."""
        if self.box_tolerance is None:
            return
        for name, dataset in datasets.items():
            before, after = _objects(dataset), _objects(written[name])
            assert before.keys() <= after.keys()
            for key, boxes in before.items():
                assert len(boxes) <= len(after[key])  # crowds may have become objects
                if boxes.shape == after[key].shape:  # one of them may be rotated
                    away = (boxes[:, None] - after[key]).abs().amax(-1).amin(1)
                    assert away.max() <= self.box_tolerance, (key, away)

    def test_leaves_the_datasets_as_they_are(self, datasets: Mapping[str, Dataset], tmp_path: Path) -> None:
        """No file that is read is changed."""
        before = {path: path.read_bytes() for path in (tmp_path / "from").rglob("*") if path.is_file()}
        (tmp_path / "to").mkdir()
        self.writer().write(datasets, tmp_path / "to")
        assert {path: path.read_bytes() for path in (tmp_path / "from").rglob("*") if path.is_file()} == before


def _mean(dataset: Dataset, index: int) -> list[float]:
    mean: list[float] = dataset[index].image.as_subclass(Tensor).double().mean((1, 2)).tolist()
    return mean


def _objects(dataset: Dataset) -> dict[tuple[Any, ...], Tensor]:
    """(height and width of the image, name of the class) -> boxes (N, 4 or 5) of all such objects but crowds."""
    found: dict[tuple[Any, ...], list[Tensor]] = {}
    for index in range(len(dataset)):
        target = dataset.target(index)
        boxes = target["boxes"].as_subclass(Tensor)
        for box, label, crowd in zip(boxes, target["labels"].tolist(), target["crowd"].tolist(), strict=True):
            if not crowd:
                found.setdefault((dataset.size(index), dataset.categories.names[label]), []).append(box)
    return {key: torch.stack(boxes) for key, boxes in found.items()}
