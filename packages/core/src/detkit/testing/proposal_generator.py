"""The contract of proposal generators."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from detkit.interfaces import ProposalGenerator
from detkit.structures.shape import Shape
from detkit.testing.inputs import CATEGORIES, HEIGHT, WIDTH, image_sizes, random_features, random_targets
from detkit.testing.modules import ModuleContract

PYRAMID: Mapping[str, Shape] = MappingProxyType({f"p{level}": Shape(16, 2**level) for level in range(2, 7)})
"""A feature pyramid p2 to p6, as an FPN gives it."""


class ProposalGeneratorContract(ModuleContract, contract=True):
    """Tests that every proposal generator passes. `input_shapes` are of the maps that it is tested with."""

    kind = "proposal_generator"
    interface: ClassVar[type[ProposalGenerator]] = ProposalGenerator  # type: ignore[type-abstract]
    input_shapes: ClassVar[Mapping[str, Shape]] = PYRAMID

    @property
    def wiring(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {"input_shapes": self.input_shapes, "categories": CATEGORIES}

    def answer(self, module: ProposalGenerator, batch: int) -> dict[str, Tensor]:
        proposals, losses = module(random_features(self.input_shapes, batch), image_sizes(batch), None)
        assert losses == {}, "without targets there are no losses"
        inside = proposals.valid[..., None]
        return {"boxes": proposals.boxes * inside, "scores": torch.where(proposals.valid, proposals.scores, 0)}

    def losses(self, module: ProposalGenerator, batch: int) -> dict[str, Tensor]:
        return self._losses(module, batch, valid=True)

    def _losses(self, module: ProposalGenerator, batch: int, *, valid: bool) -> dict[str, Tensor]:
        features = random_features(self.input_shapes, batch, gradient=True)
        return module(features, image_sizes(batch), random_targets(batch, valid=valid, rotated=module.rotated))[1]

    def test_proposals_lie_in_the_images(self, spec: Mapping[str, Any]) -> None:
        """Valid proposals are boxes (B, N, 4) xyxy within the image, of positive size, or rotated boxes (B, N, 5),
        which may reach out of it. If it fails: clip them to `image_sizes`, and drop empty ones by their `valid`
        flag."""
        module = self.make(spec).eval()
        with torch.no_grad():
            proposals, _ = module(random_features(self.input_shapes, 2), image_sizes(2), None)
        count = proposals.boxes.shape[1]
        assert proposals.boxes.shape == (2, count, 5 if module.rotated else 4)
        assert proposals.scores.shape == proposals.valid.shape == (2, count)
        assert proposals.valid.dtype == torch.bool
        boxes = proposals.boxes[proposals.valid]
        assert len(boxes)
        if module.rotated:
            assert (boxes[:, 2:4] > 0).all()
            assert (boxes[:, 4].abs() <= 180).all()
            return
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])).all()
        assert (boxes[:, 2:] >= boxes[:, :2]).all()

    def test_capacity_does_not_depend_on_the_content(self, spec: Mapping[str, Any]) -> None:
        """The number of rows is fixed by the configuration and the image size. If it fails: pad with `valid` False."""
        module = self.make(spec).eval()
        features = random_features(self.input_shapes, 1)
        flat = {name: torch.zeros_like(each) for name, each in features.items()}
        with torch.no_grad():
            shapes = [module(each, image_sizes(1), None)[0].boxes.shape for each in (features, flat)]
        assert shapes[0] == shapes[1]

    def test_images_without_objects_give_finite_losses(self, spec: Mapping[str, Any]) -> None:
        """Background images train too. If it fails: divide by max(1, number of samples)."""
        losses = self._losses(self.make(spec).train(), 2, valid=False)
        assert losses
        assert all(value.isfinite() and value.requires_grad for value in losses.values())
