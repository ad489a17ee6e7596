"""The contract of samplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detkit.config import build
from detkit.data.order import BatchOrder
from detkit.interfaces import Dataset, Sampler
from detkit.structures.categories import Categories
from detkit.structures.sample import Sample
from detkit.testing.base import KindContract

NAMES = ("common", "frequent", "rare", "absent")
LABELS = [[1, 1], [0, 1], [], [1, 2, 2], [0], [1], [1, 1, 1], [], [0, 1], [1]]
"""The labels in each image of the dataset that the contract shows: a class in every third, in most, in one, in none."""


class Labelled(Dataset):
    """Images that can be asked for everything but their pixels. Their ids are 100, 101, ...

    Args:
        labels: of the objects in each image.
        names: of the classes.
    """

    def __init__(self, labels: Sequence[Sequence[int]] = LABELS, names: Sequence[str] = NAMES) -> None:
        self._labels = [torch.tensor(entry, dtype=torch.int64) for entry in labels]
        self.categories = Categories(tuple(names))

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Sample:
        raise AssertionError("a sampler looks at annotations, never at images: that takes hours")

    def size(self, index: int) -> tuple[int, int]:
        return (480, 640) if index % 3 else (640, 480)

    def image_id(self, index: int) -> int:
        return 100 + index

    def labels(self, index: int) -> Tensor:
        return self._labels[index]

    def ground_truth(self) -> None:
        return None


class SamplerContract(KindContract, contract=True):
    """Tests that every sampler passes. They use `Labelled()`: ten images with the ids 100 to 109, of classes called
    "common", "frequent", "rare" and "absent"."""

    kind = "sampler"

    def make(self, spec: Mapping[str, Any]) -> Sampler:
        """The sampler that a spec describes."""
        return build(spec, Sampler)

    def test_answers_a_number_for_each_image(self, spec: Mapping[str, Any]) -> None:
        """`repeats` are float64 from 0 on, without reading an image, and some image is seen."""
        repeats = self.make(spec).repeats(Labelled())
        assert repeats.shape == (len(LABELS),)
        assert repeats.dtype == np.float64
        assert np.isfinite(repeats).all()
        assert (repeats >= 0).all()
        assert repeats.sum() > 0

    def test_is_a_function_of_the_annotations(self, spec: Mapping[str, Any]) -> None:
        """Equal in every process and after a resume: no global random numbers are drawn, nor is anything kept."""
        torch.manual_seed(0)
        np.random.seed(0)
        sampler = self.make(spec)
        expected = sampler.repeats(Labelled())
        assert torch.initial_seed() == 0
        torch.rand(3)
        np.random.rand(3)
        for again in (sampler, self.make(spec)):
            np.testing.assert_array_equal(again.repeats(Labelled()), expected)

    def test_takes_a_dataset_without_objects(self, spec: Mapping[str, Any]) -> None:
        """Images without annotations are training data too."""
        repeats = self.make(spec).repeats(Labelled([[]] * len(LABELS)))
        assert np.isfinite(repeats).all()
        assert repeats.sum() > 0

    def test_training_sees_images_as_often_as_it_says(self, spec: Mapping[str, Any]) -> None:
        """After many epochs each image was seen about as often as expected."""
        repeats = self.make(spec).repeats(Labelled())
        epochs = 200
        order = BatchOrder(np.arange(len(LABELS)) % 3 > 0, 2, 0, repeats)
        batches = list(islice(order.batches(), int(repeats.sum() * epochs / 2)))
        seen = np.bincount(np.concatenate(batches), minlength=len(LABELS)) / epochs
        np.testing.assert_allclose(seen, repeats, atol=0.15)
