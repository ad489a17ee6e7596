"""What convolutional backbones share that are a row of stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from det_backbones.arguments import wanted_stages
from det_backbones.fitting import COUNTS, own_arrays
from detkit.interfaces import Backbone
from detkit.layers import freeze
from detkit.structures.shape import Shape


class StagedBackbone(Backbone):
    """A row of parts, each of which takes the map of the one before it: a stem perhaps, then stages, some of whose maps
    are returned. The parts are the module's children; a subclass adds them in its constructor, in their order.

    Args:
        stages: the names of all that there could be.
        out_features: the stages to return. Those after the last are not to be built: `self.stages` has the others.

    Raises:
        ValueError: a stage is wanted that there is not, or none is.
    """

    fresh: str = COUNTS
    """A regular expression found in the names of arrays that published weights lack."""

    def __init__(self, stages: Sequence[str], out_features: Sequence[str]) -> None:
        super().__init__()
        self.stages = wanted_stages(stages, out_features)
        self._absent = stages[len(self.stages) :]
        self._out_features = frozenset(out_features)
        self._shapes: dict[str, Shape] = {}

    def add_stage(self, name: str, stage: nn.Module, shape: Shape) -> None:
        """The next part, and what its map is."""
        self.add_module(name, stage)
        if name in self._out_features:
            self._shapes[name] = shape

    def freeze_parts(self, count: int) -> None:
        """The first parts, so many, become constants in training."""
        for part in list(self.children())[:count]:
            freeze(part)

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def divisor(self) -> int:
        return 1

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, features = images, {}
        for name, part in self.named_children():
            x = part(x)
            if name in self._shapes:
                features[name] = x
        return features

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        fitting = {name: value for name, value in weights.items() if name.split(".")[0] not in self._absent}
        return own_arrays(self, self.fresh) | fitting
