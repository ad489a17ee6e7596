"""The interfaces that plugins implement: one class for each kind of component that the core calls.

A class attribute `kind` ties an interface to the kind that a plugin declares (`Component(kind="backbone", ...)`), and
lets a constructor argument annotated with it be a slot in a config.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detkit.structures.categories import Categories
from detkit.structures.proposals import Proposals
from detkit.structures.shape import Shape

if TYPE_CHECKING:
    from detkit.data.check import SourceCheck
    from detkit.engine.run import Run
    from detkit.report.figures import Figure
    from detkit.structures.batch import Targets
    from detkit.structures.prediction import Prediction
    from detkit.structures.sample import Sample


class Backbone(nn.Module, ABC):
    """Turns normalised images (B, 3, H, W) into named feature maps."""

    kind: ClassVar[str] = "backbone"

    @property
    @abstractmethod
    def output_shapes(self) -> Mapping[str, Shape]:
        """Name -> channels and stride of each map that `forward` returns, finest first."""

    @property
    def divisor(self) -> int:
        """Image sides must be multiples of this; the detector pads to it."""
        return max(shape.stride for shape in self.output_shapes.values())

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps (B, channels, H / stride, W / stride), rounded up, named as in `output_shapes`."""

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published weights of a plain backbone of this sort -> the state dict of this one, to begin training with: for
        one that builds fewer stages, or has arrays that begin from values of their own."""
        return dict(weights)

    def layer_prefixes(self) -> Sequence[Sequence[str]]:
        """The prefixes of the names of the parameters of each layer, from the images on, for learning rates that fall
        towards the images. What is in no layer comes after the last. By default there is none."""
        return ()

    def positions(self) -> Sequence[str]:
        """The names of parameters that tell positions, such as embeddings, which optimizers do not decay."""
        return ()


class Neck(nn.Module, ABC):
    """Turns the backbone's feature maps into those that the heads use. Its constructor takes `input_shapes`."""

    kind: ClassVar[str] = "neck"

    @property
    @abstractmethod
    def output_shapes(self) -> Mapping[str, Shape]:
        """Name -> channels and stride of each map that `forward` returns, finest first."""

    @property
    def divisor(self) -> int:
        """Image sides must be multiples of this; the detector pads to it."""
        return 1

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Maps named as in `output_shapes`."""


class ProposalGenerator(nn.Module, ABC):
    """Proposes boxes from feature maps. Its constructor takes `input_shapes`."""

    kind: ClassVar[str] = "proposal_generator"

    nms_iou: float = 0.7
    """The overlap above which the lower score of two proposals goes."""

    rotated: bool = False
    """Whether proposals and targets are rotated boxes (B, N, 5)."""

    @abstractmethod
    def forward(
        self, features: Mapping[str, Tensor], image_sizes: Tensor, targets: Targets | None
    ) -> tuple[Proposals, dict[str, Tensor]]:
        """Proposals, and losses where `targets` are given (else an empty dict). `image_sizes` (B, 2) height, width."""


class RoiTrunk(nn.Module, ABC):
    """Layers that run once on pooled regions, for all ROI heads: the last stage of a ResNet in "C4" models. Its
    constructor takes `input_shapes`, in which `region` is what is pooled; its `output_shapes` give the heads'.

    A head may have one of its own: then `input_shapes` are of the maps that the head sees."""

    kind: ClassVar[str] = "roi_trunk"

    @property
    @abstractmethod
    def output_shapes(self) -> Mapping[str, Shape]:
        """{"region": channels and stride of what `forward` returns}."""

    @abstractmethod
    def forward(self, regions: Tensor) -> Tensor:
        """Pooled regions (R, C, S, S) -> (R, channels, S', S')."""

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published weights of the backbone -> the state dict of this trunk, where it is a part of such a backbone;
        else nothing."""
        return {}


class SemanticHead(nn.Module, ABC):
    """A class for every pixel, from feature maps. Its constructor takes `input_shapes` and `num_semantic_classes`."""

    kind: ClassVar[str] = "semantic_head"

    stride: int = 1
    """Of `logits`, in pixels."""

    @abstractmethod
    def losses(self, features: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Scalar losses against `targets.semantic` (B, H, W), in which 255 is not labelled."""

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, classes, H, W) in the size of the padded images."""

    def logits(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, classes, H / stride, W / stride) from which `forward` interpolates, for heads that refine them."""
        return self(features)

    def losses_of(self, logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        """What `losses` gives for features with these `logits`, for heads that refine them and compute them once.

        Raises:
            ValueError: the losses of this head need more than its logits.
        """
        raise ValueError(f"{type(self).__name__} does not say what its losses are of logits; it cannot be refined")


@dataclass
class RoiSamples:
    """What the ROI heads of one batch share, filled in by the detector and by each head in turn.

    boxes (B, N, 4), or (B, N, 5) rotated, and valid (B, N). `pooled` (B * N, C, S, S) are the features of the boxes
    where the detector has a `RoiTrunk`, else None: heads then pool for themselves. In training: labels (B, N) with the
    number of classes for background, target_index (B, N) the ground truth that each box is matched to, foreground
    only in the first `foreground` columns, and image_sizes (B, 2) height, width; a head may move the boxes for those
    after it. In inference, after a box head has run: scores and labels of the detections, which `boxes` then are.
    `outputs` are the tensors (B, N, ...) that heads add for the predictions.
    """

    boxes: Tensor
    valid: Tensor
    labels: Tensor | None = None
    scores: Tensor | None = None
    target_index: Tensor | None = None
    foreground: int = 0
    image_sizes: Tensor | None = None
    pooled: Tensor | None = None
    outputs: dict[str, Tensor] = field(default_factory=dict)


class RoiHead(nn.Module, ABC):
    """A head on regions of interest: boxes, masks, keypoints, ... Its constructor takes `input_shapes`."""

    kind: ClassVar[str] = "roi_head"

    nms_iou: float = 0.5
    """Of a head that classifies: the overlap above which the lower score of a class goes."""

    rotated: bool = False
    """Whether regions and targets are rotated boxes (B, N, 5)."""

    learns_masks: bool = True
    """Whether its losses need `targets.masks`; where no head's do, masks are not drawn, which saves loading time."""

    @abstractmethod
    def losses(self, features: Mapping[str, Tensor], samples: RoiSamples, targets: Targets) -> dict[str, Tensor]:
        """Scalar losses over the valid samples; connected to the graph even where there is none."""

    @abstractmethod
    def detect(self, features: Mapping[str, Tensor], samples: RoiSamples, image_sizes: Tensor) -> RoiSamples:
        """The samples with this head's answer added. Shapes depend on capacities alone, so that it can be exported."""

    def mirrored(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The `outputs` (B, N, ...) for a mirrored image turned into those for the image itself, so that test-time
        augmentation can average them.

        Raises:
            ValueError: this head has no test-time augmentation.
        """
        raise ValueError(f"{type(self).__name__} has no test-time augmentation; leave out `tta`")

    def paste(self, raw: Mapping[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        """Fields of a Prediction, such as masks (N, H, W), from the raw outputs of one image's N detections, `boxes` in
        pixels of the answered image (height, width) among them."""
        return {}


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


class Optimizer(ABC):
    """How weights are updated; built for a model, with its parameters in groups."""

    kind: ClassVar[str] = "optimizer"

    lr: float

    @abstractmethod
    def build(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
        """An optimizer for the parameters of `model` that need gradients. `lr` is `self.lr` scaled to the batch
        size."""


class Schedule(ABC):
    """How the learning rate changes: a function of the step alone, so that a resumed run has nothing to restore."""

    kind: ClassVar[str] = "schedule"

    @abstractmethod
    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by in step 0 <= step < steps of a run of `steps` steps."""


class Callback:
    """Observes training. Every method does nothing by default; the loop calls them in the order of the config."""

    kind: ClassVar[str] = "callback"

    def on_start(self, run: Run) -> None:
        """Before the first step."""

    def on_step(self, run: Run, metrics: Mapping[str, float]) -> None:
        """After an optimizer step that was logged."""

    def on_evaluate(self, run: Run, metrics: Mapping[str, Any]) -> None:
        """After an evaluation."""

    def on_save(self, run: Run, path: Path) -> None:
        """After a checkpoint has been written."""

    def on_finish(self, run: Run, error: BaseException | None) -> None:
        """At the end, whatever ended it."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: tensors, numbers, strings, lists and dicts of them. Saved in every checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; called before `on_start`."""


class Tracker(ABC):
    """Receives curves: TensorBoard, MLflow, ..."""

    kind: ClassVar[str] = "tracker"

    @abstractmethod
    def start(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        """Open; `folder` is the run directory. A resumed run starts at a `step` above 0, and what was logged after it
        will be logged again."""

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def image(self, step: int, name: str, picture: Any) -> None:  # noqa: B027 - not every tracker shows pictures
        """A PIL image."""

    @abstractmethod
    def finish(self) -> None: ...


class CheckpointFormat(ABC):
    """Turns somebody else's models into detkit model directories (`detkit convert NAME ...`)."""

    kind: ClassVar[str] = "checkpoint_format"

    @abstractmethod
    def convert(self, model: str, weights: Path | None, out: Path, *, sha256: str | None = None) -> Path:
        """Write a model directory.

        Args:
            model: a config file, or the name under which the model is published.
            weights: a checkpoint; None for a published one, which is downloaded.
            out: the directory to write.
            sha256: the checksum that a downloaded checkpoint must have, or its first digits.

        Raises:
            ValueError: lists whatever has no counterpart, or says what is missing.
        """
