"""Two-stage detectors: Faster R-CNN, Mask R-CNN, and whatever heads are added to them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from det_heads.panoptic import PanopticMerging
from det_heads.pooler import RoiPooling, image_index
from det_heads.semantic import ViewAverage, semantic_fields
from detkit.detector import Detector
from detkit.interfaces import Backbone, Neck, ProposalGenerator, RoiHead, RoiSamples, RoiTrunk, SemanticHead
from detkit.ops.boxes import clip_boxes, resized_boxes
from detkit.ops.matching import match_boxes
from detkit.ops.sampling import sample_balanced
from detkit.structures.batch import Batch, Targets
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.prediction import Prediction
from detkit.structures.proposals import Proposals
from detkit.tta import View, merge_boxes

SAMPLING_STREAM = 2  # tells this use of an image's seed from others
_NOT_SELECTED = ("valid", "boxes", "semantic_logits")  # what `detect` answers that postprocessing treats by itself


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
        backbone, neck: its parts; without a neck the heads see the backbone's maps.
        semantic_head: labels every pixel, besides (Panoptic FPN).
        panoptic: how instances, which need a `mask` head, and pixels are merged into segments; without it they are not.
        proposal_generator: without one, proposals come with the images (Fast R-CNN).
        roi_pooling: how regions are pooled for the trunk.
        roi_trunk: layers on pooled regions that all heads share ("C4" models); without one each head pools for itself.
        heads: by role, in the order in which they run. The first classifies and refines (`box`); the others, such as
            `mask`, describe what it found.
        input: how images are prepared.
        categories: the classes of instances.
        semantic_categories: the classes of pixels, where there is a semantic head.
        sampling: of the regions in training.
        instance_weight: of the losses of `heads`, relative to those of proposals and pixels.

    Raises:
        ValueError: a semantic head without its classes, `panoptic` without what it merges, or only one of
            `roi_pooling` and `roi_trunk`.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | None = None,
        semantic_head: SemanticHead | None = None,
        panoptic: PanopticMerging | None = None,
        proposal_generator: ProposalGenerator | None = None,
        roi_pooling: RoiPooling | None = None,
        roi_trunk: RoiTrunk | None = None,
        heads: Mapping[str, RoiHead],
        input: InputSpec = InputSpec(),
        categories: Categories,
        semantic_categories: Categories | None = None,
        sampling: RoiSampling = RoiSampling(),
        instance_weight: float = 1.0,
    ) -> None:
        if semantic_head is not None and semantic_categories is None:
            raise ValueError("a semantic head needs semantic_categories, the classes of pixels")
        if panoptic is not None and (semantic_head is None or "mask" not in heads):
            raise ValueError(
                "panoptic segments need a semantic_head and a `mask` among the heads, or leave out `panoptic`"
            )
        if panoptic is not None and semantic_categories is not None:
            apart = [name for name in semantic_categories.names if name in categories.names]
            if apart:
                raise ValueError(
                    f"{', '.join(apart[:3])} are classes both of instances and of pixels; `panoptic` needs one class "
                    "of pixels, the first, for all things together: read the data with things_together: true"
                )
        if (roi_trunk is None) != (roi_pooling is None):
            raise ValueError("a roi_trunk and roi_pooling, which says what it sees, go together; give both or neither")
        rotated = {name: head.rotated for name, head in heads.items()}
        if proposal_generator is not None:
            rotated["proposal_generator"] = proposal_generator.rotated
        if len(set(rotated.values())) > 1:
            of_rotated = ", ".join(name for name, value in rotated.items() if value)
            others = ", ".join(name for name, value in rotated.items() if not value)
            raise ValueError(f"{of_rotated}: of rotated boxes; {others}: of upright ones; a model is of one kind")
        divisor = math.lcm(input.divisor, backbone.divisor, 1 if neck is None else neck.divisor)
        super().__init__(
            input=replace(input, divisor=divisor),
            categories=categories,
            semantic_categories=semantic_categories if semantic_head else None,
        )
        self.backbone = backbone
        self.neck = neck
        self.semantic_head = semantic_head
        self.panoptic = panoptic
        self.proposal_generator = proposal_generator
        self.roi_trunk = roi_trunk
        self.pool = None if roi_pooling is None else roi_pooling.pooler()
        self.heads = nn.ModuleDict(heads)
        self.rotated = any(rotated.values())
        self.learns_masks = any(head.learns_masks for head in heads.values())
        self.sampling = sampling
        self.instance_weight = instance_weight

    @property
    def answers(self) -> Sequence[str]:
        masks = ["masks"] if self.learns_masks else []
        return (*super().answers, *masks, *(["panoptic"] if self.panoptic is not None else []))

    @property
    def needs_proposals(self) -> bool:
        return self.proposal_generator is None

    def _heads_in_order(self) -> Iterable[RoiHead]:
        return cast(Iterable[RoiHead], self.heads.values())  # torch's types forget what a ModuleDict holds

    def features(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Feature maps of uint8 RGB images (B, 3, H, W) of sizes (B, 2)."""
        features = self.backbone(self.normalize(images, sizes))
        return features if self.neck is None else self.neck(features)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None
        if (batch.targets.boxes.shape[2] == 5) != self.rotated:
            wanted = "rotated boxes (N, 5)" if self.rotated else "upright boxes (N, 4)"
            raise ValueError(f"targets have boxes of {batch.targets.boxes.shape[2]} numbers; this model wants {wanted}")
        features = self.features(batch.images, batch.sizes)
        proposals, losses = self.propose(features, batch.sizes, batch.targets, batch.proposals)
        samples = replace(self.sample(proposals, batch.targets), image_sizes=batch.sizes)
        samples = self._with_pooled(features, samples)
        for head in self._heads_in_order():
            found = head.losses(features, samples, batch.targets)
            losses.update({name: value * self.instance_weight for name, value in found.items()})
        if self.semantic_head is not None:
            losses.update(self.semantic_head.losses(features, batch.targets))
        return losses

    def propose(
        self,
        features: Mapping[str, Tensor],
        sizes: Tensor,
        targets: Targets | None = None,
        given: Proposals | None = None,
    ) -> tuple[Proposals, dict[str, Tensor]]:
        """Proposals, the model's own or those given, and the losses of its generator.

        Raises:
            ValueError: proposals are given to a model that makes its own, or not given to one that does not.
        """
        if (given is None) == (self.proposal_generator is None):
            raise ValueError(
                "this model makes no proposals of its own: give them with the images, as `proposals`, or as a file of "
                "them to the dataset's option `proposals`"
                if given is None
                else "this model makes its own proposals; leave out `proposals`"
            )
        if given is not None:
            return replace(given, boxes=clip_boxes(given.boxes, sizes)), {}
        assert self.proposal_generator is not None
        found: tuple[Proposals, dict[str, Tensor]] = self.proposal_generator(features, sizes, targets)
        return found

    def _with_pooled(self, features: Mapping[str, Tensor], samples: RoiSamples) -> RoiSamples:
        if self.roi_trunk is None or self.pool is None:
            return samples
        regions = self.pool(features, samples.boxes.flatten(0, 1), image_index(samples.boxes))
        return replace(samples, pooled=self.roi_trunk(regions))

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
            boxes=boxes.gather(1, index[..., None].expand(-1, -1, boxes.shape[-1])),
            valid=chosen,
            labels=classes.gather(1, index),
            target_index=matched.gather(1, index),
            foreground=foreground,
        )

    def answer(self, batch: Batch) -> dict[str, Tensor]:
        return self.detect(batch.images, batch.sizes, batch.proposals)

    def detect(self, images: Tensor, sizes: Tensor, proposals: Proposals | None = None) -> dict[str, Tensor]:
        """boxes (B, D, 4 or 5) in pixels of the padded images, scores, labels and valid (B, D), and the heads' outputs;
        with a semantic head also semantic_logits (B, C, H, W)."""
        features = self.features(images, sizes)
        proposals, _ = self.propose(features, sizes, given=proposals)
        samples = RoiSamples(boxes=proposals.boxes, valid=proposals.valid)
        pooled_for: Tensor | None = None
        for head in self._heads_in_order():
            if samples.boxes is not pooled_for:  # a head has moved the boxes
                samples = self._with_pooled(features, samples)
                pooled_for = samples.boxes
            samples = head.detect(features, samples, sizes)
        assert samples.scores is not None and samples.labels is not None, "the first head must classify"
        return {
            "boxes": samples.boxes,
            "scores": samples.scores,
            "labels": samples.labels,
            "valid": samples.valid,
            **samples.outputs,
            **({} if self.semantic_head is None else {"semantic_logits": self.semantic_head(features)}),
        }

    def detect_views(self, views: Sequence[View]) -> dict[str, Tensor]:
        """The boxes of all views merged, what the other heads say of them averaged, as Detectron2 does."""
        box_head, *others = self._heads_in_order()
        answers = []
        pixels = ViewAverage()
        for view in views:
            features = self.features(view.images, view.sizes)
            if self.semantic_head is not None:
                pixels.add(view, self.semantic_head(features))
            proposals, _ = self.propose(features, view.sizes)
            regions = self._with_pooled(features, RoiSamples(boxes=proposals.boxes, valid=proposals.valid))
            found = box_head.detect(features, regions, view.sizes)
            assert found.scores is not None and found.labels is not None, "the first head must classify"
            answers.append({"boxes": found.boxes, "scores": found.scores, "labels": found.labels, "valid": found.valid})
        merged = merge_boxes(answers, views, nms_iou=box_head.nms_iou, capacity=answers[0]["boxes"].shape[1])
        if self.semantic_head is not None:
            merged["semantic_logits"] = pixels.logits()
        for view in views if others else ():
            features = self.features(view.images, view.sizes)  # again: those of all views together may not fit
            samples = RoiSamples(
                boxes=view.from_original(merged["boxes"]),
                valid=merged["valid"],
                scores=merged["scores"],
                labels=merged["labels"],
            )
            samples = self._with_pooled(features, samples)
            for head in others:
                outputs = head.detect(features, replace(samples, outputs={}), view.sizes).outputs
                for name, value in (head.mirrored(outputs) if view.flipped else outputs).items():
                    merged[name] = merged.get(name, 0) + value / len(views)
        return merged

    def postprocess(
        self, raw: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]], output_sizes: Sequence[tuple[int, int]]
    ) -> list[Prediction]:
        predictions = []
        for image, (size, output_size) in enumerate(zip(sizes, output_sizes, strict=True)):
            boxes, has_area = resized_boxes(raw["boxes"][image], size, output_size)
            keep = raw["valid"][image] & has_area
            found = {name: value[image][keep] for name, value in raw.items() if name not in _NOT_SELECTED}
            found["boxes"] = boxes[keep]
            fields: dict[str, Any] = {name: found[name] for name in ("boxes", "scores", "labels")}
            for head in self._heads_in_order():
                fields.update(head.paste(found, output_size))
            if "semantic_logits" in raw:
                fields.update(semantic_fields(raw["semantic_logits"][image], size, output_size))
            if self.panoptic is not None:
                fields.update(self.panoptic(fields["scores"], fields["labels"], fields["masks"], fields["semantic"]))
            predictions.append(Prediction(output_size, **fields))
        return predictions
