"""The contract of backbones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from detkit.interfaces import Backbone
from detkit.testing.inputs import HEIGHT, WIDTH, generator
from detkit.testing.modules import ModuleContract


class BackboneContract(ModuleContract, contract=True):
    """Tests that every backbone passes."""

    kind = "backbone"
    interface: ClassVar[type[Backbone]] = Backbone  # type: ignore[type-abstract]

    def answer(self, module: Backbone, batch: int) -> dict[str, Tensor]:
        return module(_images(module, batch))

    def test_maps_have_the_declared_shapes(self, spec: Mapping[str, Any]) -> None:
        """`forward` returns what `output_shapes` says: names, order, channels, strides (sizes rounded up), for any
        multiple of `divisor`.
        If it fails: correct `output_shapes`; if only odd multiples fail, pad so that a stage halves its input
        exactly."""
        backbone = self.make(spec).eval()
        declared = backbone.output_shapes
        assert declared
        strides = [shape.stride for shape in declared.values()]
        assert strides == sorted(strides), "finest first"
        unit = backbone.divisor * max(1, 37 // backbone.divisor)  # odd where any size will do
        for rows, columns in ((2, 2), (3, 5)):
            height, width = rows * unit, columns * unit
            with torch.no_grad():
                maps = backbone(torch.randn(1, 3, height, width, generator=generator()))
            expected = {
                name: (1, shape.channels, -(-height // shape.stride), -(-width // shape.stride))
                for name, shape in declared.items()
            }
            assert [(name, tuple(each.shape)) for name, each in maps.items()] == list(expected.items())

    def test_layers_and_positions_are_parameters(self, spec: Mapping[str, Any]) -> None:
        """`layer_prefixes` and `positions` name parameters, and no parameter is in two layers.
        If it fails: a prefix ends where a part of a dotted name does ("blocks.1", not "blocks.")."""
        backbone = self.make(spec)
        names = {name for name, _ in backbone.named_parameters()}
        assert set(backbone.positions()) <= names
        layers: dict[str, int] = {}
        for layer, prefixes in enumerate(backbone.layer_prefixes()):
            for prefix in prefixes:
                own = [name for name in names if f"{name}.".startswith(f"{prefix}.")]
                assert own, f"no parameter's name begins with {prefix}"
                assert all(layers.setdefault(name, layer) == layer for name in own), f"{prefix} is in two layers"


def _images(module: Backbone, batch: int) -> Tensor:
    """Normalised images (batch, 3, height, width) whose sides are multiples of the divisor."""
    divisor = module.divisor
    height, width = -(-HEIGHT // divisor) * divisor, -(-WIDTH // divisor) * divisor
    return torch.randn(2, 3, height, width, generator=generator())[:batch]
