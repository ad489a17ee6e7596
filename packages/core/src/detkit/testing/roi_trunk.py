"""The contract of trunks on regions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from detkit.interfaces import RoiTrunk
from detkit.structures.shape import Shape
from detkit.testing.inputs import CATEGORIES, generator
from detkit.testing.modules import ModuleContract

_REGIONS, _SIZE = 3, 14


class RoiTrunkContract(ModuleContract, contract=True):
    """Tests that every trunk on pooled regions passes. `input_shapes` is of the regions it is tested with."""

    kind = "roi_trunk"
    interface: ClassVar[type[RoiTrunk]] = RoiTrunk  # type: ignore[type-abstract]
    input_shapes: ClassVar[Mapping[str, Shape]] = MappingProxyType({"region": Shape(16, 16)})

    @property
    def wiring(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {"input_shapes": self.input_shapes, "categories": CATEGORIES}

    def answer(self, module: RoiTrunk, batch: int) -> dict[str, Tensor]:
        channels = self.input_shapes["region"].channels
        regions = torch.randn(2 * _REGIONS, channels, _SIZE, _SIZE, generator=generator())[: batch * _REGIONS]
        found: Tensor = module(regions)
        return {"region": found.view(batch, _REGIONS, *found.shape[1:])}

    def test_the_declared_channels_come_out(self, spec: Mapping[str, Any]) -> None:
        """`forward` returns as many channels as `output_shapes` says. If it fails: correct `output_shapes`."""
        module = self.make(spec).eval()
        with torch.no_grad():
            found = self.answer(module, 1)["region"]
        assert list(module.output_shapes) == ["region"]
        assert found.shape[2] == module.output_shapes["region"].channels
