"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from detkit.detector import Detector
from detkit.interfaces import Backbone, Neck, SemanticHead
from detkit.structures.batch import Batch
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.prediction import Prediction
from detkit.tta import View


class SemanticSegmenter(Detector):
    """backbone -> neck -> semantic head. Its `categories` are those of pixels.

    Args:
        backbone, neck: its parts; without a neck the head sees the backbone's maps.
        semantic_head: labels the pixels.
        input: how images are prepared.
        semantic_categories: the classes of pixels.
    """

    learns_masks = False

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | None = None,
        semantic_head: SemanticHead,
        input: InputSpec = InputSpec(),
        semantic_categories: Categories,
    ) -> None:
        divisor = math.lcm(input.divisor, backbone.divisor, 1 if neck is None else neck.divisor)
        super().__init__(
            input=replace(input, divisor=divisor),
            categories=semantic_categories,
            semantic_categories=semantic_categories,
        )
        self.backbone = backbone
        self.neck = neck
        self.semantic_head = semantic_head

    def features(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Feature maps of uint8 RGB images (B, 3, H, W) of sizes (B, 2)."""
        features = self.backbone(self.normalize(images, sizes))
        return features if self.neck is None else self.neck(features)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None
        return self.semantic_head.losses(self.features(batch.images, batch.sizes), batch.targets)

    def detect(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """semantic_logits (B, C, H, W) in the size of the padded images."""
        return {"semantic_logits": self.semantic_head(self.features(images, sizes))}

    def detect_views(self, views: Sequence[View]) -> dict[str, Tensor]:
        """The mean of what all views say of a pixel."""
        average = ViewAverage()
        for view in views:
            average.add(view, self.semantic_head(self.features(view.images, view.sizes)))
        return {"semantic_logits": average.logits()}

    def postprocess(
        self, raw: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]], output_sizes: Sequence[tuple[int, int]]
    ) -> list[Prediction]:
        return [
            Prediction(output_size, **semantic_fields(logits, size, output_size))
            for logits, size, output_size in zip(raw["semantic_logits"], sizes, output_sizes, strict=True)
        ]


class ViewAverage:
    """The mean probability of each class at each pixel of an image, from several views of it."""

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._count = 0

    def add(self, view: View, logits: Tensor) -> None:
        """The logits (1, C, h, w) of a padded view."""
        size: tuple[int, int] = tuple(view.sizes[0].tolist())
        inside = logits[..., : size[0], : size[1]]
        inside = inside.flip(-1) if view.flipped else inside
        probability = F.interpolate(inside, size=view.original_size, mode="bilinear").softmax(dim=1)
        self._total = probability if self._total is None else self._total.add_(probability)
        self._count += 1

    def logits(self) -> Tensor:
        """Logits (1, C, H, W) in the size of the image, whose softmax is the mean."""
        assert self._total is not None
        return (self._total / self._count).clamp(min=torch.finfo(self._total.dtype).tiny).log()


def semantic_fields(logits: Tensor, size: tuple[int, int], output_size: tuple[int, int]) -> dict[str, Tensor]:
    """`semantic_logits` (C, H, W) and `semantic` (H, W) of a Prediction, from the logits of one padded image: the
    padding beyond `size` is cut off, the rest interpolated to `output_size`."""
    logits = logits[:, : size[0], : size[1]]
    if size != output_size:
        logits = F.interpolate(logits[None], size=output_size, mode="bilinear")[0]
    return {"semantic_logits": logits, "semantic": logits.argmax(dim=0)}
