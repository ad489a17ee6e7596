"""Where samples come from, what is done to them, and what predictions are measured by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.structures.categories import Categories

if TYPE_CHECKING:
    from detkit.data.check import SourceCheck
    from detkit.report.figures import Figure
    from detkit.structures.prediction import Prediction
    from detkit.structures.sample import Sample


class Dataset(ABC):
    """A set of annotated images of one split, indexed by position. Construction reads annotations, never images."""

    kind: ClassVar[str] = "dataset"

    layout: ClassVar[str] = ""
    """What `splits` looks for, in words, for the message when it is not there."""

    problems: Mapping[str, int] = MappingProxyType({})
    """What was wrong with the annotations and what was done about it -> how often; for `detkit data check`."""

    categories: Categories

    semantic_categories: Categories | None = None
    """The classes of pixels, where samples have `semantic` maps."""

    has_panoptic: bool = False
    """Whether every pixel belongs to a segment, see `panoptic_map`; such a dataset has `semantic_categories`."""

    has_masks: bool = False
    """Whether objects have outlines or bitmaps; samples then say which (`has_mask`)."""

    rotated: bool = False
    """Whether boxes are rotated (N, 5)."""

    instance_evaluators: ClassVar[Sequence[str]] = ("coco",)
    """The names of the evaluators of instances that suit this format, with "diagnosis", which explains errors, where
    ground truth is in COCO's form."""

    @property
    def evaluators(self) -> Sequence[str]:
        """The names of the evaluators that `detkit eval` uses by default, those of them that measure what the model
        answers (`Evaluator.needs`)."""
        instances = self.instance_evaluators if len(self.categories) else ()
        pixels = ["semantic"] if self.semantic_categories is not None else []
        return (*instances, *pixels, *(["panoptic"] if self.has_panoptic else []))

    @property
    def has_proposals(self) -> bool:
        """Whether samples have `proposals`; see `detkit.data.proposals`."""
        return False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Read and decode one image with its annotations. ValueError naming the file if that cannot be done."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image without reading it, for batching by aspect ratio."""

    def sizes(self) -> Tensor:
        """(I, 2) height and width of all images."""
        return torch.tensor([self.size(index) for index in range(len(self))], dtype=torch.int64).reshape(-1, 2)

    def image_id(self, index: int) -> int | str:
        """The dataset's own id of an image, as in `Sample.info`. By default the image is read for it; a reader of large
        datasets knows better."""
        found: int | str = self[index].info["image_id"]
        return found

    def labels(self, index: int) -> Tensor:
        """The labels (N,) int64 of an image's objects, crowds among them. By default the image is read for them."""
        found: Tensor = self[index].target["labels"]
        return found

    def all_labels(self) -> tuple[Tensor, Tensor]:
        """Of all objects, in the order of the images: the positions (A,) int64 of their images, and their labels (A,)
        int64."""
        found = [self.labels(index) for index in range(len(self))]
        counts = torch.tensor([len(labels) for labels in found], dtype=torch.int64)
        images = torch.repeat_interleave(torch.arange(len(found)), counts)
        return images, torch.cat([torch.zeros(0, dtype=torch.int64), *found])

    def target(self, index: int) -> dict[str, Any]:
        """The annotations of one image as in `Sample.target`, but for `semantic` and proposals. By default the image is
        read for them."""
        return self[index].target

    def annotation_ids(self, index: int) -> Tensor | None:
        """What `ground_truth` calls an image's objects, (N,) int64 in the order of `target`; None, the default, where
        that is not known."""
        return None

    def place(self, index: int) -> str:
        """Where an image is: a path, a URL, or a shard and what is in it. By default the image is read for it."""
        found: str = self[index].info["path"]
        return found

    def encoded(self, index: int) -> bytes:
        """The file of an image as it is. ValueError naming it if it cannot be read."""
        place = self.place(index)
        try:
            return Path(place).read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read the image {place}: {error.strerror or error}") from error

    @abstractmethod
    def ground_truth(self) -> Any:
        """What this dataset's evaluators compare with (a COCO-style dict for COCO-style data), with the dataset's
        ids."""

    def streamed_truth(self) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        """`ground_truth` for what goes through it once, as writers of files do: a COCO-style dict without its
        `annotations`, and these one by one, so that those of a large dataset are not in memory together. By default
        they are.

        Raises:
            ValueError: the ground truth is of another form.
        """
        truth = self.ground_truth()
        if not isinstance(truth, dict) or not {"images", "annotations", "categories"} <= truth.keys():
            raise ValueError(f"the ground truth of {type(self).__name__} is not in COCO's form, which is needed here")
        return {key: value for key, value in truth.items() if key != "annotations"}, iter(truth["annotations"])

    def semantic_map(self, image_id: Any) -> Tensor:
        """The labels (H, W) uint8 of an image's pixels, for evaluators; of datasets with `semantic_categories`."""
        raise ValueError(f"{type(self).__name__} has no classes of pixels")

    def panoptic_map(self, image_id: Any) -> tuple[Tensor, list[dict[str, Any]]]:
        """The ids (H, W) int32 of the segments that an image's pixels belong to, 0 where there is none, and what these
        are, as in `Prediction.segments`, with `iscrowd` instead of scores; of datasets that have them
        (`has_panoptic`), for evaluators."""
        raise ValueError(f"{type(self).__name__} has no panoptic segments")

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        """If `path` is a folder, or a YAML file, in this format: split name ("train", "val", "test") -> constructor
        arguments; else None."""
        return None

    @classmethod
    def source_check(cls, arguments: Mapping[str, Any]) -> SourceCheck | None:
        """What looks through the files that a dataset with these arguments would read, for `detkit data check`, and
        goes on where the constructor would stop. None, the default, if there is no such thing: then the dataset is
        opened and all of its samples are read."""
        return None


class DatasetWriter(ABC):
    """Writes datasets in a format that a reader finds by itself (`Dataset.splits`)."""

    kind: ClassVar[str] = "dataset_writer"

    @abstractmethod
    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits ("train", "val", ...), with their images, into a folder that is empty.

        Raises:
            ValueError: the format cannot hold such a dataset. What it loses of one that it can hold (`detkit data
                convert` counts that) is no error.
        """


class Evaluator(ABC):
    """Computes metrics from predictions: `start` with a dataset, `add` predictions in any order, then `compute`.

    A config names evaluators before there is a dataset, so the dataset comes with `start`, which may be called again.
    """

    kind: ClassVar[str] = "evaluator"

    title: ClassVar[str] = ""
    """What a report calls it; the name of its class by default."""

    needs: ClassVar[Sequence[str]] = ("boxes", "labels")
    """The fields of predictions that it measures; see `Detector.answers`."""

    @abstractmethod
    def start(self, dataset: Dataset) -> None:
        """Forget what was added, and evaluate against this dataset's ground truth from now on.

        Raises:
            ValueError: the dataset lacks what this evaluator compares with.
        """

    @abstractmethod
    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        """Add the prediction for one image; `info` is its entry of `Batch.info`. Keeps what it needs, on the host."""

    @abstractmethod
    def state(self) -> Any:
        """What has been added so far, as picklable data, to be gathered from other processes."""

    @abstractmethod
    def merge(self, states: Iterable[Any]) -> None:
        """Replace what has been added by the union of `states` (each image once)."""

    @abstractmethod
    def compute(self) -> dict[str, dict[str, Any]]:
        """Section ("bbox", "segm") -> metric -> value; a float from 0 to 1 is a score, None is undefined."""

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        """(title, column names, rows) to print after `compute`, and for the report."""
        return ()

    def reasons(self) -> Mapping[str, Mapping[str, str]]:
        """Section -> metric -> why `compute` left it undefined."""
        return {}

    def figures(self) -> Sequence[Figure]:
        """What the report shows besides metrics and tables, after `compute`."""
        return ()

    def save(self, folder: Path) -> None:  # noqa: B027 - nothing to write is a fine default
        """Write result files into a folder, with the dataset's own ids."""


class Sampler(ABC):
    """How often training sees each image."""

    kind: ClassVar[str] = "sampler"

    @abstractmethod
    def repeats(self, dataset: Dataset) -> NDArray[np.float64]:
        """(I,) float64, from 0 on: how often each image comes in an epoch, on average. Their sum is the length of an
        epoch in images. A function of the dataset's annotations alone, equal in all processes.

        Raises:
            ValueError: the dataset lacks what this sampler needs.
        """


class Transform(ABC):
    """A step from Sample to Sample; a torchvision.transforms.v2 transform serves where it does the job."""

    kind: ClassVar[str] = "transform"

    @abstractmethod
    def __call__(self, sample: Sample) -> Sample: ...


class MixingTransform(Transform):
    """A transform that puts several samples into one: mosaic, copy-paste, ... In a chain, the loader draws its partners
    from the dataset and passes each through the transforms before this one."""

    @abstractmethod
    def draw_partners(self) -> int:
        """How many partners this sample gets, drawn at random from torch's generator; with 0 it stays as it is."""

    @abstractmethod
    def mix(self, sample: Sample, partners: Sequence[Sample]) -> Sample:
        """One sample of all of them, with the `info` of the first."""

    def __call__(self, sample: Sample) -> Sample:
        """The sample mixed with itself, where there is no dataset to draw from."""
        partners = [sample] * self.draw_partners()
        return self.mix(sample, partners) if partners else sample
