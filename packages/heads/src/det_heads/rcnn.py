"""Two-stage detectors: Faster R-CNN, Mask R-CNN, and whatever heads are added to them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from detkit.detector import Detector
from detkit.interfaces import Backbone, Neck, ProposalGenerator, Proposals, RoiHead, RoiSamples
from detkit.ops.matching import match_boxes
from detkit.ops.sampling import sample_balanced
from detkit.structures.batch import Batch, Targets
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.prediction import Prediction

SAMPLING_STREAM = 2  # tells this use of an image's seed from others


@dataclass(frozen=True)
class RoiSampling:
    """Which proposals the heads are trained on.

    Args:
        batch_size_per_image: regions sampled from each image.
        foreground_fraction: at most this share is foreground.
        iou: proposals that overlap an object by at least this much are foreground, others background.
        append_targets: whether the ground-truth boxes themselves are among the proposals.
    """

    batch_size_per_image: int = 512
    foreground_fraction: float = 0.25
    iou: float = 0.5
    append_targets: bool = True


class RCNN(Detector):
    """backbone -> neck -> proposals -> heads on regions.

    Args:
        backbone, neck, proposal_generator: its parts; without a neck the heads see the backbone's maps.
        heads: by role, in the order in which they run. The first classifies and refines (`box`); the others, such as
            `mask`, describe what it found.
        input: how images are prepared.
        categories: the classes.
        sampling: of the regions in training.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | None = None,
        proposal_generator: ProposalGenerator,
        heads: Mapping[str, RoiHead],
        input: InputSpec = InputSpec(),
        categories: Categories,
        sampling: RoiSampling = RoiSampling(),
    ) -> None:
        divisor = math.lcm(input.divisor, backbone.divisor, 1 if neck is None else neck.divisor)
        super().__init__(input=replace(input, divisor=divisor), categories=categories)
        self.backbone = backbone
        self.neck = neck
        self.proposal_generator = proposal_generator
        self.heads = nn.ModuleDict(heads)
        self.sampling = sampling

    def _heads_in_order(self) -> Iterable[RoiHead]:
        return cast(Iterable[RoiHead], self.heads.values())  # torch's types forget what a ModuleDict holds

    def features(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Feature maps of uint8 RGB images (B, 3, H, W) of sizes (B, 2)."""
        features = self.backbone(self.normalize(images, sizes))
        return features if self.neck is None else self.neck(features)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None
        features = self.features(batch.images, batch.sizes)
        proposals, losses = self.proposal_generator(features, batch.sizes, batch.targets)
        samples = self.sample(proposals, batch.targets)
        for head in self._heads_in_order():
            losses.update(head.losses(features, samples, batch.targets))
        return losses

    @torch.no_grad()
    def sample(self, proposals: Proposals, targets: Targets) -> RoiSamples:
        """Regions to train the heads on, matched to the ground truth."""
        boxes, valid = proposals.boxes, proposals.valid
        if self.sampling.append_targets:
            boxes, valid = torch.cat([boxes, targets.boxes], dim=1), torch.cat([valid, targets.valid], dim=1)
        iou = self.sampling.iou
        matched_labels, matched = match_boxes(targets.boxes, targets.valid, boxes, low=iou, high=iou)
        background = len(self.categories)
        classes = torch.where(matched_labels > 0, targets.labels.gather(1, matched), background)
        index, chosen, foreground = sample_balanced(
            torch.where(valid, matched_labels, -1),
            targets.seeds,
            count=self.sampling.batch_size_per_image,
            positive_fraction=self.sampling.foreground_fraction,
            stream=SAMPLING_STREAM,
        )
        return RoiSamples(
            boxes=boxes.gather(1, index[..., None].expand(-1, -1, 4)),
            valid=chosen,
            labels=classes.gather(1, index),
            target_index=matched.gather(1, index),
            foreground=foreground,
        )

    def detect(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """boxes (B, D, 4) in pixels of the padded images, scores, labels and valid (B, D), and the heads' outputs."""
        features = self.features(images, sizes)
        proposals, _ = self.proposal_generator(features, sizes, None)
        samples = RoiSamples(boxes=proposals.boxes, valid=proposals.valid)
        for head in self._heads_in_order():
            samples = head.detect(features, samples, sizes)
        assert samples.scores is not None and samples.labels is not None, "the first head must classify"
        return {
            "boxes": samples.boxes,
            "scores": samples.scores,
            "labels": samples.labels,
            "valid": samples.valid,
            **samples.outputs,
        }

    def postprocess(
        self, raw: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]], output_sizes: Sequence[tuple[int, int]]
    ) -> list[Prediction]:
        predictions = []
        for image, (size, output_size) in enumerate(zip(sizes, output_sizes, strict=True)):
            scale = raw["boxes"].new_tensor([output_size[1] / size[1], output_size[0] / size[0]] * 2)
            limit = raw["boxes"].new_tensor([output_size[1], output_size[0]] * 2)
            boxes = torch.minimum((raw["boxes"][image] * scale).clamp(min=0), limit)
            keep = raw["valid"][image] & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            found = {name: value[image][keep] for name, value in raw.items() if name not in ("valid", "boxes")}
            found["boxes"] = boxes[keep]
            fields = {"boxes": found["boxes"], "scores": found["scores"], "labels": found["labels"]}
            for head in self._heads_in_order():
                fields.update(head.paste(found, output_size))
            predictions.append(Prediction(output_size, **fields))
        return predictions
