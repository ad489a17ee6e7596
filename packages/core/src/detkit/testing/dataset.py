"""The contract of dataset readers."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from detkit.interfaces import Dataset
from detkit.plugins import registry
from detkit.structures.batch import UNLABELLED
from detkit.structures.semantic_map import SemanticMap
from detkit.testing.base import ContractBase
from detkit.testing.transform import assert_equal


class DatasetContract(ContractBase, contract=True):
    """Tests that a dataset reader passes. The subclass sets `name`, that of the component, unless the dataset is none,
    and writes a dataset."""

    name: ClassVar[str] = ""

    def make(self, folder: Path) -> Dataset:
        """Write a dataset of image files into an empty folder and open it: at least three images, one of them without
        annotations, and at least two classes."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def dataset(cls, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
        """What `make` makes, for tests that read it alone."""
        return cls().make(tmp_path_factory.mktemp("dataset"))

    def test_make_makes_what_the_contract_needs(self, dataset: Dataset) -> None:
        """Otherwise the other tests would test little."""
        assert not self.name or type(dataset) is registry().load("dataset", self.name)
        counts = [len(dataset[index].target["labels"]) for index in range(len(dataset))]
        assert len(counts) >= 3
        if not len(dataset.categories):  # pixels alone are labelled
            assert dataset.semantic_categories is not None
            assert len(dataset.semantic_categories) >= 2
            return
        assert min(counts) == 0 < max(counts)
        assert len(dataset.categories) >= 2

    def test_sizes_are_those_of_the_images(self, dataset: Dataset) -> None:
        """`size` knows (height, width) without reading the image; batches by aspect ratio depend on it."""
        for index in range(len(dataset)):
            sample = dataset[index]
            assert isinstance(sample.image, tv_tensors.Image)
            assert sample.image.dtype == torch.uint8
            assert tuple(sample.image.shape) == (3, *dataset.size(index))
            assert tuple(sample.info["original_size"]) == dataset.size(index)

    def test_targets_have_a_row_for_each_instance(self, dataset: Dataset) -> None:
        """boxes (N, 4) XYXY with area, inside the image, or, of a `rotated` dataset, (N, 5) CXCYWHR with their centre
        inside; labels (N,) int64 from 0; crowd (N,) bool; as many outlines."""
        for index in range(len(dataset)):
            target, (height, width) = dataset[index].target, dataset.size(index)
            boxes, labels = target["boxes"], target["labels"]
            assert isinstance(boxes, tv_tensors.BoundingBoxes)
            assert tuple(boxes.canvas_size) == (height, width)
            plain = boxes.as_subclass(Tensor)
            if dataset.rotated:
                assert boxes.format == tv_tensors.BoundingBoxFormat.CXCYWHR
                assert boxes.clamping_mode is None
                assert plain.shape == (len(labels), 5)
                places, sizes = plain[:, :2], plain[:, 2:4]
            else:
                assert boxes.format == tv_tensors.BoundingBoxFormat.XYXY
                assert plain.shape == (len(labels), 4)
                places, sizes = plain.reshape(-1, 2), plain[:, 2:] - plain[:, :2]
            assert ((places >= 0) & (places <= torch.tensor((width, height)))).all()
            assert (sizes > 0).all()
            assert labels.dtype == torch.int64
            assert ((labels >= 0) & (labels < len(dataset.categories))).all()
            assert target["crowd"].dtype == torch.bool
            assert target["crowd"].shape == labels.shape
            if "polygons" in target:
                assert target["polygons"].num_instances == len(labels)
            if "keypoints" in target:
                assert dataset.categories.keypoints is not None
                assert tuple(target["keypoints"].shape) == (len(labels), len(dataset.categories.keypoints), 3)
                assert target["keypoints"].flipped == tuple(dataset.categories.keypoints.flipped)
            if "masks" in target:
                assert tuple(target["masks"].shape) == (len(labels), height, width)

    def test_pixels_have_labels_of_known_classes(self, dataset: Dataset) -> None:
        """Where a dataset has `semantic_categories`, every sample has a `semantic` map, and `semantic_map` gives the
        same to evaluators; elsewhere none has."""
        for index in range(len(dataset)):
            sample = dataset[index]
            assert ("semantic" in sample.target) == (dataset.semantic_categories is not None)
            if dataset.semantic_categories is not None:
                labels = sample.target["semantic"]
                assert isinstance(labels, SemanticMap)
                assert tuple(labels.shape) == dataset.size(index)
                plain = labels.as_subclass(Tensor)
                assert ((plain < len(dataset.semantic_categories)) | (plain == UNLABELLED)).all()
                assert torch.equal(dataset.semantic_map(sample.info["image_id"]), plain)

    def test_segments_are_those_in_the_map(self, dataset: Dataset) -> None:
        """Where a dataset `has_panoptic`, `panoptic_map` gives ids (H, W) int32, and for each of them but 0 a segment
        with its area and its label: of `categories` for a thing, of `semantic_categories` for stuff. Its labels are
        those of the `semantic` map, unless that has one class for all things, its first."""
        if not dataset.has_panoptic:
            with pytest.raises(ValueError, match="panoptic"):
                dataset.panoptic_map(dataset.image_id(0))
            return
        assert dataset.semantic_categories is not None
        names, pixels = dataset.categories.names, dataset.semantic_categories.names
        together = not set(names) & set(pixels)
        for index in range(len(dataset)):
            image_id = dataset.image_id(index)
            (ids, segments), semantic = dataset.panoptic_map(image_id), dataset.semantic_map(image_id)
            assert ids.dtype == torch.int32
            assert tuple(ids.shape) == dataset.size(index)
            assert sorted(segment["id"] for segment in segments) == sorted(set(ids.unique().tolist()) - {0})
            for segment in segments:
                assert segment.keys() == {"id", "isthing", "label", "area", "iscrowd"}
                mask = ids == segment["id"]
                assert segment["area"] == int(mask.sum())
                label = segment["label"]
                if segment["isthing"]:
                    label = 0 if together else pixels.index(names[label])
                assert (semantic[mask] == label).float().mean() > 0.9  # different files may differ at borders

    def test_annotations_are_known_without_reading_images(self, dataset: Dataset) -> None:
        """`labels`, `all_labels`, `sizes` and `image_id` say the same as the samples."""
        samples = [dataset[index] for index in range(len(dataset))]
        labels = [sample.target["labels"] for sample in samples]
        images, of_all = dataset.all_labels()
        assert images.dtype == of_all.dtype == torch.int64
        assert images.tolist() == [index for index, entry in enumerate(labels) for _ in entry]
        assert of_all.tolist() == [label for entry in labels for label in entry.tolist()]
        for index, sample in enumerate(samples):
            assert torch.equal(dataset.labels(index), labels[index])
            assert dataset.image_id(index) == sample.info["image_id"]
        assert dataset.sizes().tolist() == [list(dataset.size(index)) for index in range(len(dataset))]

    def test_images_are_known_by_unique_ids(self, dataset: Dataset) -> None:
        """`info` has the dataset's own image_id, by which results are told apart, and the path, which errors name."""
        infos = [dataset[index].info for index in range(len(dataset))]
        assert len({info["image_id"] for info in infos}) == len(infos)
        assert all(isinstance(info["path"], str) for info in infos)

    def test_reads_the_same_again_and_in_a_worker(self, dataset: Dataset) -> None:
        """Reading is repeatable and changes nothing, and the dataset can be pickled for a worker process."""
        again = pickle.loads(pickle.dumps(dataset))
        for index in range(len(dataset)):
            expected = dataset[index]
            assert_equal(dataset[index], expected)
            assert_equal(again[index], expected)

    def test_positions_end(self, dataset: Dataset) -> None:
        """A position beyond the end is an IndexError, so that `for sample in dataset` ends."""
        with pytest.raises(IndexError):
            dataset[len(dataset)]

    def test_a_missing_image_is_named(self, tmp_path: Path) -> None:
        """An image that cannot be read is a ValueError that names the file."""
        dataset = self.make(tmp_path)
        path = Path(dataset[0].info["path"])
        if "::" in path.name:  # a shard and what is in it; it may be open, so that removing it would change nothing
            os.truncate(str(path).partition("::")[0], 0)
        else:
            path.unlink()
        with pytest.raises(ValueError, match=path.name):
            dataset[0]

    def test_other_folders_are_somebody_elses(self, dataset: Dataset, tmp_path: Path) -> None:
        """`splits` answers None, without an error, for a folder that is not in this format."""
        (tmp_path / "strange").mkdir()
        (tmp_path / "strange" / "notes.json").write_text("{}")
        assert not type(dataset).splits(tmp_path / "strange")

    def test_says_what_it_looks_for(self, dataset: Dataset) -> None:
        """If folders of this format are recognised, `layout` describes them for the message when none is."""
        if "splits" in vars(type(dataset)):
            assert type(dataset).layout
