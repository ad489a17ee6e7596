"""The contract of necks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from detkit.interfaces import Neck
from detkit.structures.shape import Shape
from detkit.testing.inputs import CATEGORIES, random_features
from detkit.testing.modules import ModuleContract, assert_same


class NeckContract(ModuleContract, contract=True):
    """Tests that every neck passes. `input_shapes` are of the backbone's maps that it is tested with."""

    kind = "neck"
    interface: ClassVar[type[Neck]] = Neck  # type: ignore[type-abstract]
    input_shapes: ClassVar[Mapping[str, Shape]] = MappingProxyType(
        {"res2": Shape(8, 4), "res3": Shape(16, 8), "res4": Shape(24, 16), "res5": Shape(32, 32)}
    )

    @property
    def wiring(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {"input_shapes": self.input_shapes, "categories": CATEGORIES}

    def answer(self, module: Neck, batch: int) -> dict[str, Tensor]:
        return module(random_features(self.input_shapes, batch, gradient=torch.is_grad_enabled()))

    def test_maps_have_the_declared_shapes(self, spec: Mapping[str, Any]) -> None:
        """`forward` returns what `output_shapes` says: names, order, channels, strides. If it fails: correct
        `output_shapes`."""
        neck = self.make(spec).eval()
        with torch.no_grad():
            maps = self.answer(neck, 1)
        expected = {name: tuple(each.shape) for name, each in random_features(neck.output_shapes, 1).items()}
        assert [(name, tuple(each.shape)) for name, each in maps.items()] == list(expected.items())
        strides = [shape.stride for shape in neck.output_shapes.values()]
        assert strides == sorted(strides), "finest first"

    def test_export_gives_the_same_maps(self, spec: Mapping[str, Any]) -> None:
        """`torch.export` of the neck succeeds, and the program answers as the neck does. If it fails: no Python branch
        and no shape may depend on a tensor's values."""
        neck = self.make(spec).eval()
        features = random_features(self.input_shapes, 1)
        with torch.no_grad():
            program = torch.export.export(neck, (features,), strict=False)
            found = program.module()(features)
            expected = neck(features)
        assert_same(found, expected, 1e-5)
