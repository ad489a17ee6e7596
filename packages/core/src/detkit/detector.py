"""The interface of a whole model: images in, losses or predictions out."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from detkit.fusion import optimize
from detkit.layers import memory_format
from detkit.structures.batch import Batch
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.prediction import Prediction
from detkit.tta import Augmentation, View


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards every module is in the mode in which it was found."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class Detector(nn.Module, ABC):
    """A detection pipeline. It speaks torchvision's convention at its boundary:

        model.train();  losses = model(images, targets)      # dict of scalar losses
        model.eval();   predictions = model(images)          # one Prediction for each image

    images are a list of uint8 RGB tensors (3, H, W) of any sizes, or a collated Batch; targets are dicts with boxes
    (N, 4) xyxy pixels, labels (N,) from 0, masks (N, H, W) and whatever else the model trains on. `model.predict(...)`
    does the rest: it reads files, resizes as `input` says and answers in the original image's pixels.

    `categories` are the classes of instances, `semantic_categories` those of pixels (None where the model does not
    label pixels; a model that does nothing else has them as `categories` too).

    Subclasses call `super().__init__(input=..., categories=...)` and implement `losses`, `detect` and `postprocess`.
    """

    kind: ClassVar[str] = "detector"

    rotated: bool = False
    """Whether boxes, of targets too, are rotated: (N, 5) centre x, y, width, height, degrees counter-clockwise."""

    optimized: bool = False
    """Whether `optimize` was called."""

    learns_masks: bool = True
    """Whether its losses need `targets.masks`; where they do not, masks are not drawn, which saves loading time."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, *, input: InputSpec, categories: Categories, semantic_categories: Categories | None = None
    ) -> None:
        super().__init__()
        self.input = input
        self.categories = categories
        self.semantic_categories = semantic_categories
        self.register_buffer("pixel_mean", torch.tensor(input.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(input.std).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def needs_proposals(self) -> bool:
        """Whether proposals come with the images, since the model makes none of its own. Its `detect` takes them as a
        third argument."""
        return False

    @property
    def classifies(self) -> bool:
        """Whether predictions of instances have labels; without them they are objects of any class."""
        return True

    @property
    def answers(self) -> Sequence[str]:
        """Those of the fields "boxes", "labels", "masks", "semantic" and "panoptic" that its predictions have."""
        pixels = self.semantic_categories
        boxes = ["boxes", *(["labels"] if self.classifies else [])] if self.categories != pixels else []
        return (*boxes, *(["semantic"] if pixels is not None else []))

    @property
    def divisor(self) -> int:
        """Images are padded to a multiple of this many pixels."""
        return self.input.divisor

    def forward(
        self,
        images: Batch | Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]] | None = None,
        *,
        proposals: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> dict[str, Tensor] | list[Prediction]:
        """Losses in training mode, predictions otherwise (in the pixels of the given images, or of the files where a
        Batch knows their `original_size`). A model that makes no proposals of its own needs dicts of `proposals` (N, 4)
        and `proposal_scores` (N,), one for each image, here or in the targets.

        Raises:
            ValueError: training without targets, or malformed images or targets.
        """
        batch = (
            images
            if isinstance(images, Batch)
            else Batch.collate(images, targets, self.divisor, proposals=proposals, square=self.input.square)
        )
        batch = batch.to(self.device, non_blocking=True)
        if self.training:
            if batch.targets is None:
                raise ValueError(
                    "a model in training mode needs targets: model(images, targets), or model.eval() first"
                )
            return self.losses(batch)
        return self.predictions(batch)

    def predictions(self, batch: Batch, *, score_threshold: float = -math.inf) -> list[Prediction]:
        """One Prediction for each image of a batch on the model's device, without those below the threshold: masks, the
        largest part of an answer, are pasted for the others alone."""
        sizes: list[tuple[int, int]] = [tuple(size) for size in batch.sizes.tolist()]
        output_sizes = (
            [info.get("original_size", size) for info, size in zip(batch.info, sizes, strict=True)]
            if batch.info
            else sizes
        )
        raw = self.answer(batch)
        if "scores" in raw:
            raw["valid"] = raw["valid"] & (raw["scores"] >= score_threshold)
        predictions = self.postprocess(raw, sizes, output_sizes)
        for prediction, info in zip(predictions, batch.info, strict=False):
            prediction.path = info.get("path")
        return predictions

    def normalize(self, images: Tensor, sizes: Tensor) -> Tensor:
        """uint8 RGB images (B, 3, H, W) -> float images in the model's channel order, 0 mean; the padding beyond each
        image's size (B, 2) is 0, the mean colour."""
        x = images.to(self.pixel_mean.dtype)
        if self.input.channel_order == "bgr":
            x = x.flip(1)
        x = (x - self.pixel_mean) / self.pixel_std
        rows = torch.arange(x.shape[2], device=x.device) < sizes[:, :1]
        columns = torch.arange(x.shape[3], device=x.device) < sizes[:, 1:]
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        order = memory_format(x.device, gradients=self.training and torch.is_grad_enabled())
        return torch.where(inside, x, 0.0).contiguous(memory_format=order)

    def predict_views(
        self, image: Tensor, augmentation: Augmentation, *, score_threshold: float = -math.inf
    ) -> Prediction:
        """The prediction for an original image (3, H, W) uint8 RGB on the model's device, from several views of it."""
        size = (image.shape[1], image.shape[2])
        raw = self.detect_views(augmentation.views(image, self.input, self.divisor))
        if "scores" in raw:
            raw["valid"] = raw["valid"] & (raw["scores"] >= score_threshold)
        return self.postprocess(raw, [size], [size])[0]

    def answer(self, batch: Batch) -> dict[str, Tensor]:
        """What `detect` answers for a batch. A detector that needs more than images overrides this.

        Raises:
            ValueError: the batch holds what the model has no use for, or lacks what it needs.
        """
        if batch.proposals is not None:
            raise ValueError("this model makes its own proposals; leave out `proposals`")
        return self.detect(batch.images, batch.sizes)

    def detect_views(self, views: Sequence[View]) -> dict[str, Tensor]:
        """What `detect` answers for one image, in pixels of the original, from several views of it: see `detkit.tta`.

        Raises:
            ValueError: there is no test-time augmentation for this kind of model.
        """
        raise ValueError(f"{type(self).__name__} has no test-time augmentation; leave out `tta`")

    def optimize(self) -> Self:
        """Make this model faster for inference, in place and for good; returns it. Batch norms fold into convolutions
        (see `detkit.fusion`), with equal answers but for rounding. It can be exported and compiled as before, but
        neither trained nor saved."""
        optimize(self)
        self.optimized = True
        return self

    def inference_copy(self) -> Detector:
        """A copy of this model to which `optimize` is done, or the model itself if it is already. The model does not
        change, and shares with the copy the memory of what does not fold."""
        if self.optimized:
            return self
        shared: dict[int, Any] = {id(each): nn.Parameter(each.detach(), False) for each in self.parameters()}
        shared.update((id(each), each) for each in self.buffers())
        return copy.deepcopy(self, shared).optimize()

    def train(self, mode: bool = True) -> Self:
        """As of any module; `optimize` cannot be undone."""
        if mode and self.optimized:
            raise ValueError("this model was optimised for inference, and cannot be trained; load it anew")
        return super().train(mode)

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses of a batch with targets, their weights applied; works in training and in evaluation mode (for
        validation losses). No Python loop over images, no device synchronisation."""

    @abstractmethod
    def detect(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """The exportable part: uint8 RGB images (B, 3, H, W), sizes (B, 2) -> tensors of fixed capacity, `valid` (B, D)
        among them, in the pixels of the padded images."""

    @abstractmethod
    def postprocess(
        self, raw: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]], output_sizes: Sequence[tuple[int, int]]
    ) -> list[Prediction]:
        """`detect`'s answer as one Prediction for each image, scaled from `sizes` (height, width of the unpadded
        network input) to `output_sizes`, padding and empty boxes dropped, masks pasted."""

    def class_rows(self) -> dict[str, int | tuple[int, int]]:
        """Parameter name -> rows of its first dimension that belong to each class (class 0 first; rows beyond the last
        class belong to none), or (blocks, rows) where the dimension is that many blocks, such as anchors, each of all
        classes. Fine-tuning on other classes re-uses the rows of classes with the same name."""
        return self._rows("rows_per_class")

    def semantic_class_rows(self) -> dict[str, int | tuple[int, int]]:
        """The same for `semantic_categories`."""
        return self._rows("rows_per_semantic_class")

    def class_columns(self) -> dict[str, int]:
        """Parameter name -> columns, of its second dimension, that belong to each class, the last ones, class 0 first:
        of layers that take what was said of each class. Fine-tuning treats them as `class_rows`."""
        return self._rows("columns_per_class")

    def semantic_class_columns(self) -> dict[str, int]:
        """The same for `semantic_categories`."""
        return self._rows("columns_per_semantic_class")

    def _rows(self, attribute: str) -> dict[str, Any]:
        return {
            f"{prefix}.{name}" if prefix else name: rows
            for prefix, module in self.named_modules()
            for name, rows in getattr(module, attribute, {}).items()
        }

    def predict(self, source: Any, **options: Any) -> Any:
        """Predict for a path, a folder, an array (H, W, 3) uint8 RGB, a PIL image, or a list of them; see
        `detkit.predict.predict` for the options. One Prediction for one image, else a list."""
        from detkit.predict import predict  # reads files and images: not needed to train

        return predict(self, source, **options)
