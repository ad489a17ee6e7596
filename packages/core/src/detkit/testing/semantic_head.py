"""The contract of heads that label pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from detkit.interfaces import SemanticHead
from detkit.structures.shape import Shape
from detkit.testing.inputs import (
    CATEGORIES,
    HEIGHT,
    SEMANTIC_CATEGORIES,
    WIDTH,
    random_features,
    random_targets,
)
from detkit.testing.modules import ModuleContract
from detkit.testing.proposal_generator import PYRAMID


class SemanticHeadContract(ModuleContract, contract=True):
    """Tests that every head that labels pixels passes. `input_shapes` are of the maps that it is tested with."""

    kind = "semantic_head"
    interface: ClassVar[type[SemanticHead]] = SemanticHead  # type: ignore[type-abstract]
    input_shapes: ClassVar[Mapping[str, Shape]] = PYRAMID

    @property
    def wiring(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {
            "input_shapes": self.input_shapes,
            "categories": CATEGORIES,
            "semantic_categories": SEMANTIC_CATEGORIES,
        }

    def answer(self, module: SemanticHead, batch: int) -> dict[str, Tensor]:
        return {"logits": module(random_features(self.input_shapes, batch))}

    def losses(self, module: SemanticHead, batch: int) -> dict[str, Tensor]:
        return module.losses(random_features(self.input_shapes, batch, gradient=True), random_targets(batch))

    def test_logits_have_the_size_of_the_images(self, spec: Mapping[str, Any]) -> None:
        """`forward` returns one logit for each class and pixel of the padded images. If it fails: interpolate."""
        module = self.make(spec).eval()
        with torch.no_grad():
            assert self.answer(module, 1)["logits"].shape == (1, len(SEMANTIC_CATEGORIES), HEIGHT, WIDTH)

    def test_logits_before_they_are_interpolated_have_their_stride(self, spec: Mapping[str, Any]) -> None:
        """`logits` returns one for each class and cell of `stride` pixels. If it fails: say which stride they have."""
        module = self.make(spec).eval()
        with torch.no_grad():
            found = module.logits(random_features(self.input_shapes, 1))
        size = (-(-HEIGHT // module.stride), -(-WIDTH // module.stride))
        assert found.shape == (1, len(SEMANTIC_CATEGORIES), *size)

    def test_images_without_labels_give_finite_losses(self, spec: Mapping[str, Any]) -> None:
        """Where no pixel is labelled, losses are finite and connected to the graph. If it fails: divide by the number
        of labelled pixels, at least 1."""
        module = self.make(spec).train()
        targets = random_targets(2, valid=False)
        losses = module.losses(random_features(self.input_shapes, 2, gradient=True), targets)
        assert losses
        assert all(value.isfinite() and value.requires_grad for value in losses.values())
