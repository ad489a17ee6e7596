"""A region proposal network on its own: boxes of whatever is an object, of no class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from detkit.detector import Detector
from detkit.interfaces import Backbone, Neck, ProposalGenerator
from detkit.ops.boxes import resized_boxes
from detkit.structures.batch import Batch
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.prediction import Prediction
from detkit.tta import View, merge_boxes


class ProposalNetwork(Detector):
    """backbone -> neck -> proposals, for a Fast R-CNN that is trained on them (Ren et al., Faster R-CNN, 2015).

    Predictions have boxes and scores, which are objectness logits, and no labels.

    Args:
        backbone, neck: its parts; without a neck the generator sees the backbone's maps.
        proposal_generator: what is trained.
        input: how images are prepared.
        categories: of the data that it is trained on; it does not tell them apart.
    """

    learns_masks = False

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | None = None,
        proposal_generator: ProposalGenerator,
        input: InputSpec = InputSpec(),
        categories: Categories,
    ) -> None:
        divisor = math.lcm(input.divisor, backbone.divisor, 1 if neck is None else neck.divisor)
        super().__init__(input=replace(input, divisor=divisor), categories=categories)
        self.backbone = backbone
        self.neck = neck
        self.proposal_generator = proposal_generator
        self.rotated = proposal_generator.rotated

    @property
    def classifies(self) -> bool:
        return False

    def features(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Feature maps of uint8 RGB images (B, 3, H, W) of sizes (B, 2)."""
        features: dict[str, Tensor] = self.backbone(self.normalize(images, sizes))
        return features if self.neck is None else self.neck(features)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None
        losses: dict[str, Tensor] = self.proposal_generator(
            self.features(batch.images, batch.sizes), batch.sizes, batch.targets
        )[1]
        return losses

    def detect(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """boxes (B, N, 4 or 5) in pixels of the padded images, scores (B, N) logits from high to low, valid (B, N)."""
        found = self.proposal_generator(self.features(images, sizes), sizes, None)[0]
        return {
            "boxes": torch.where(found.valid[..., None], found.boxes, 0.0),
            "scores": torch.where(found.valid, found.scores, 0.0),
            "valid": found.valid,
        }

    def detect_views(self, views: Sequence[View]) -> dict[str, Tensor]:
        """The proposals of all views merged."""
        answers = [self.detect(view.images, view.sizes) for view in views]
        capacity = answers[0]["boxes"].shape[1]
        merged = merge_boxes(answers, views, nms_iou=self.proposal_generator.nms_iou, capacity=capacity)
        del merged["labels"]
        return merged

    def postprocess(
        self, raw: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]], output_sizes: Sequence[tuple[int, int]]
    ) -> list[Prediction]:
        predictions = []
        for image, (size, output_size) in enumerate(zip(sizes, output_sizes, strict=True)):
            boxes, has_area = resized_boxes(raw["boxes"][image], size, output_size)
            keep = raw["valid"][image] & has_area
            predictions.append(Prediction(output_size, boxes=boxes[keep], scores=raw["scores"][image][keep]))
        return predictions
