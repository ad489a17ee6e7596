"""The contract of heads on regions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from detkit.interfaces import RoiHead, RoiSamples
from detkit.structures.batch import Targets
from detkit.structures.shape import Shape
from detkit.testing.inputs import CATEGORIES, image_sizes, random_boxes, random_features, random_targets, turned
from detkit.testing.modules import ModuleContract
from detkit.testing.proposal_generator import PYRAMID

_REGIONS, _FOREGROUND = 8, 3


class RoiHeadContract(ModuleContract, contract=True):
    """Tests that every head on regions passes. `input_shapes` are of the maps that it is tested with; `complete` adds
    to the ground truth what a distribution's own readers know of objects."""

    kind = "roi_head"
    interface: ClassVar[type[RoiHead]] = RoiHead  # type: ignore[type-abstract]
    input_shapes: ClassVar[Mapping[str, Shape]] = PYRAMID

    @property
    def wiring(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {"input_shapes": self.input_shapes, "categories": CATEGORIES}

    def complete(self, targets: Targets) -> Targets:
        """The ground truth with what the heads learn from, where boxes, masks, keypoints and semantic maps are not
        enough: add it to `targets.extra`. Instances that are not `valid` have none of it."""
        return targets

    def answer(self, module: RoiHead, batch: int) -> dict[str, Tensor]:
        detections = RoiSamples(
            boxes=_regions(module, batch),
            valid=torch.ones(batch, _REGIONS, dtype=torch.bool),
            labels=(torch.arange(_REGIONS) % len(CATEGORIES)).expand(batch, -1),
            scores=torch.linspace(0.9, 0.2, _REGIONS).expand(batch, -1),
        )
        found = module.detect(random_features(self.input_shapes, batch), detections, image_sizes(batch))
        assert found.scores is not None
        tensors = {"boxes": found.boxes * found.valid[..., None], "scores": found.scores * found.valid}
        return {**tensors, **found.outputs}

    def losses(self, module: RoiHead, batch: int) -> dict[str, Tensor]:
        return self._losses(module, batch, foreground=True)

    def _losses(self, module: RoiHead, batch: int, *, foreground: bool) -> dict[str, Tensor]:
        """Losses of 8 regions, the first 3 of which are the ground truth's boxes, the others background."""
        targets = self.complete(random_targets(batch, _FOREGROUND, valid=foreground, rotated=module.rotated))
        if not module.learns_masks:
            targets.masks = None
        boxes = _regions(module, batch)
        is_object = (torch.arange(_REGIONS) < _FOREGROUND) & foreground
        boxes[:, :_FOREGROUND] += (targets.boxes - boxes[:, :_FOREGROUND]) * foreground
        classes = torch.zeros(batch, _REGIONS, dtype=torch.int64)
        classes[:, :_FOREGROUND] = targets.labels
        samples = RoiSamples(
            boxes=boxes,
            valid=torch.ones(batch, _REGIONS, dtype=torch.bool),
            labels=torch.where(is_object, classes, len(CATEGORIES)),
            target_index=(torch.arange(_REGIONS) % _FOREGROUND).expand(batch, -1).contiguous(),
            foreground=_FOREGROUND,
            image_sizes=image_sizes(batch),
        )
        return module.losses(random_features(self.input_shapes, batch, gradient=True), samples, targets)

    def test_detections_keep_their_capacity(self, spec: Mapping[str, Any]) -> None:
        """Every tensor of the answer is (B, N, ...) with N fixed by the input or the configuration. If it fails: pad
        with `valid` False."""
        module = self.make(spec).eval()
        with torch.no_grad():
            answer = self.answer(module, 2)
        assert {tuple(value.shape[:2]) for value in answer.values()} == {tuple(answer["boxes"].shape[:2])}

    def test_regions_without_objects_give_finite_losses(self, spec: Mapping[str, Any]) -> None:
        """Where no region is foreground, losses are finite and connected to the graph. If it fails: divide by
        max(1, count), and multiply by a mask instead of selecting."""
        losses = self._losses(self.make(spec).train(), 2, foreground=False)
        assert losses
        assert all(value.isfinite() and value.requires_grad for value in losses.values())


def _regions(module: RoiHead, batch: int) -> Tensor:
    boxes = random_boxes(batch, _REGIONS, seed=3)
    return turned(boxes) if module.rotated else boxes
