"""Parts that keep their arguments and compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from detkit.detector import Detector
from detkit.interfaces import Backbone, Neck, Optimizer, RoiHead, Schedule
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.shape import Shape


class Plain(Backbone):
    """Plain.

    Args:
        depth: how deep it is;
            at least 1.
        norm: what normalises.
        scales: of each map.
        weights: a file.
    """

    def __init__(
        self,
        *,
        depth: int = 2,
        norm: Literal["bn", "gn"] = "bn",
        scales: tuple[float, float] = (1.0, 2.0),
        weights: Path | None = None,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is {depth}; it must be at least 1")
        self.depth, self.norm, self.scales, self.weights = depth, norm, scales, weights

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return {f"c{level}": Shape(self.depth, 2**level) for level in (2, 3)}

    def forward(self, images: Any) -> Any:
        raise NotImplementedError


class Wide(Plain):
    """Takes the arguments of Plain."""


class Widen(Neck):
    """Args:
    input_shapes: from before.
    factor: of the channels.
    """

    def __init__(self, *, input_shapes: Mapping[str, Shape], factor: int = 4) -> None:
        super().__init__()
        self.input_shapes, self.factor = input_shapes, factor

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return {name: Shape(shape.channels * self.factor, shape.stride) for name, shape in self.input_shapes.items()}

    def forward(self, features: Any) -> Any:
        raise NotImplementedError


class Head(RoiHead):
    """A head."""

    def __init__(self, *, input_shapes: Mapping[str, Shape], num_classes: int, weight: float = 1.0) -> None:
        super().__init__()
        self.input_shapes, self.num_classes, self.weight = input_shapes, num_classes, weight

    def losses(self, features: Any, samples: Any, targets: Any) -> Any:
        raise NotImplementedError

    def detect(self, features: Any, samples: Any, image_sizes: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Sampling:
    """Args:
    count: of regions.
    fraction: of foreground.
    """

    count: int = 512
    fraction: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}; it lies between 0 and 1")


class Pipeline(Detector):
    """A detector that detects nothing.

    Args:
        backbone, neck: its parts.
        heads: on regions, in order.
        named: further heads by role.
        sampling: which regions are trained on.
        input: how images are prepared.
        categories: the classes.
        tags: words.
        mixed: a number of steps or a word.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | None = None,
        heads: Sequence[RoiHead] = (),
        named: Mapping[str, RoiHead] | None = None,
        sampling: Sampling = Sampling(count=64),
        input: InputSpec | None = None,
        categories: Categories,
        tags: Sequence[str] = (),
        mixed: int | Literal["epoch"] | None = None,
    ) -> None:
        super().__init__(input=input or InputSpec(), categories=categories)
        self.backbone, self.neck, self.sampling, self.tags, self.mixed = backbone, neck, sampling, tags, mixed
        self.heads = nn.ModuleList(heads)
        self.named = nn.ModuleDict(named or {})

    def losses(self, batch: Any) -> Any:
        raise NotImplementedError

    def detect(self, images: Any, sizes: Any) -> Any:
        raise NotImplementedError

    def postprocess(self, raw: Any, sizes: Any, output_sizes: Any) -> Any:
        raise NotImplementedError


class Descent(Optimizer):
    """An optimizer."""

    def __init__(self, *, lr: float, lr_factors: Mapping[str, float] | None = None) -> None:
        self.lr, self.lr_factors = lr, lr_factors

    def build(self, model: Any, lr: float) -> Any:
        raise NotImplementedError


class Flat(Schedule):
    """A schedule."""

    def factor(self, step: int, steps: int) -> float:
        return 1.0
