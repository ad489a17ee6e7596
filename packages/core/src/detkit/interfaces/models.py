"""The parts of a detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from detkit.structures.proposals import Proposals
from detkit.structures.shape import Shape

if TYPE_CHECKING:
    from detkit.structures.batch import Targets


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
