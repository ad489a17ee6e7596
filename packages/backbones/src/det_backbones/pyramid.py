"""What necks that are pyramids share: maps whose strides double from each level to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from detkit.structures.shape import Shape


def chosen(neck: str, input_shapes: Mapping[str, Shape], in_features: Sequence[str] | None) -> dict[str, Shape]:
    """The maps that a neck of this name (for messages) uses: those of `in_features`, all by default.

    Raises:
        ValueError: `in_features` names a map that there is not.
    """
    names = tuple(in_features or input_shapes)
    missing = [name for name in names if name not in input_shapes]
    if missing:
        raise ValueError(f"{neck} wants {', '.join(missing)}; the backbone gives {', '.join(input_shapes)}")
    return {name: input_shapes[name] for name in names}


def pyramid_inputs(neck: str, input_shapes: Mapping[str, Shape], in_features: Sequence[str] | None) -> dict[str, Shape]:
    """As `chosen`, finest first, each map half as fine as the one before.

    Raises:
        ValueError: a map is wanted that there is not, or strides do not double.
    """
    maps = chosen(neck, input_shapes, in_features)
    strides = [shape.stride for shape in maps.values()]
    if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
        raise ValueError(
            f"{neck} needs strides that double from each map to the next; got {strides}. Choose maps whose strides do, "
            "the finest first, with in_features"
        )
    return maps


def level_name(stride: int) -> str:
    """What a pyramid's map of this stride is called: p2 of stride 4, p3 of stride 8, ..."""
    return f"p{int(math.log2(stride))}"


def upsample_onto(coarse: Tensor, fine: Tensor) -> Tensor:
    """A map (B, C, H, W) with every value repeated in 2 x 2 positions, in the size of the map one level below: without
    its last row or column where the size of that is odd."""
    return F.interpolate(coarse, scale_factor=2.0, mode="nearest")[..., : fine.shape[-2], : fine.shape[-1]]
