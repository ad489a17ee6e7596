"""The neck that does nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from det_backbones.pyramid import chosen
from detkit.interfaces import Neck
from detkit.structures.shape import Shape


class Identity(Neck):
    """The backbone's maps themselves, or some of them, for heads that use all the maps they are given.

    Args:
        input_shapes: of the backbone's maps.
        in_features: the maps to pass on, finest first; all by default.

    Raises:
        ValueError: a map is wanted that there is not.
    """

    def __init__(self, *, input_shapes: Mapping[str, Shape], in_features: Sequence[str] | None = None) -> None:
        super().__init__()
        self._shapes = chosen("Identity", input_shapes, in_features)

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: features[name] for name in self._shapes}
