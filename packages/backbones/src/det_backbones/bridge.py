"""Networks of other libraries as backbones: what their maps are is found out by running them without memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from det_backbones.fitting import COUNTS, own_arrays
from detkit.interfaces import Backbone
from detkit.layers import frozen_batch_norm
from detkit.structures.shape import Shape

FINEST = 4  # the stride of the finest map that is returned by default
_POSITIONS = re.compile(r"(?:.+\.)?(?:pos_embed\w*|\w*pos_embedding|rel_pos\w*|relative_position_bias_table)")


def name_of(stride: int) -> str:
    """What a map of this stride is called: stride8."""
    return f"stride{stride}"


def choose(strides: Iterable[int], out_features: Sequence[str] | None, title: str) -> list[int]:
    """The strides of the maps to return, of those that there are: by default all from 4 on.

    Raises:
        ValueError: a map is wanted that there is not, or there are none.
    """
    names = {name_of(stride): stride for stride in sorted(strides)}
    if max(names.values(), default=0) < FINEST:
        raise ValueError(f"{title} cannot be a backbone: it has no maps of stride {FINEST} or more")
    if out_features is None:
        return [stride for stride in names.values() if stride >= FINEST]
    if not out_features or any(name not in names for name in out_features):
        raise ValueError(f"out_features is {list(out_features)}; {title} has {', '.join(names)}")
    return sorted({names[name] for name in out_features})


def layout(shape: Sequence[int], height: int, width: int) -> tuple[Shape, bool] | None:
    """Channels and stride of a map of images of this height and width, and whether the channels come last: of
    (B, C, H / stride, W / stride) or (B, H / stride, W / stride, C). None if the shape is neither."""
    if len(shape) != 4:
        return None
    for channels_last, (rows, columns) in ((False, shape[2:]), (True, shape[1:3])):
        stride = height // max(1, rows)
        if stride * rows == height and stride * columns == width:
            return Shape(shape[3 if channels_last else 1], stride), channels_last
    return None


@dataclass(frozen=True, kw_only=True)
class Maps:
    """What a network returns.

    shapes: of each map, finest first.
    channels_last: whether each map comes as (B, H, W, C).
    parameters: the names of the trained parameters that each map depends on.
    divisor: images' sides must be multiples of it.
    """

    shapes: tuple[Shape, ...]
    channels_last: tuple[bool, ...]
    parameters: tuple[frozenset[str], ...]
    divisor: int


def inspect(net: nn.Module, strides: Sequence[int], units: Sequence[int], title: str) -> Maps:
    """Run a network that lives on the meta device on images of several sizes.

    Args:
        net: images (B, 3, H, W) to maps, a list or the values of a mapping.
        strides: that its maps should have, finest first.
        units: of the images' sides; the first that the network takes is its divisor.
        title: what to call it in messages.

    Raises:
        ValueError: it takes none of them, or its maps have other strides.
    """
    problem = ""
    for unit in units:
        try:
            maps = _run(net.eval(), 8 * unit, 12 * unit)
        except Exception as error:  # whatever a library's network raises at a size that it does not take
            problem = problem or (str(error).strip() or type(error).__name__).splitlines()[0]
            continue
        found = [layout(each.shape, 8 * unit, 12 * unit) for each in maps]
        if [each and each[0].stride for each in found] != list(strides):
            sizes = ", ".join(str(tuple(each.shape[1:])) for each in maps)
            raise ValueError(
                f"{title} cannot be a backbone: of images of {8 * unit} x {12 * unit} its maps are {sizes}, "
                f"which is not their size divided by {', '.join(map(str, strides))}"
            )
        return Maps(
            shapes=tuple(each[0] for each in found if each),
            channels_last=tuple(each[1] for each in found if each),
            parameters=tuple(_ancestors(net, each) for each in maps),
            divisor=unit,
        )
    raise ValueError(f"{title} cannot be a backbone: it does not take images of any size ({problem}); choose another")


def _run(net: nn.Module, height: int, width: int) -> list[Tensor]:
    with torch.device("meta"), torch.enable_grad():
        maps = net(torch.empty(1, 3, height, width))
    return list(maps.values() if isinstance(maps, Mapping) else maps)


def _ancestors(net: nn.Module, output: Tensor) -> frozenset[str]:
    """The names of the parameters that a tensor was computed from, of those that are trained."""
    names = {parameter: name for name, parameter in net.named_parameters() if parameter.requires_grad}
    found: set[str] = set()
    seen: set[object] = set()
    nodes: list[Any] = [output.grad_fn]  # of the graph that a backward pass would follow, which would cost far more
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and leaf in names:
            found.add(names[leaf])
        nodes.extend(before for before, _ in node.next_functions)
    return frozenset(found)


class ForeignBackbone(Backbone):
    """A network of another library. Its maps are called stride<n> (stride4, stride8, ...).

    Args:
        net: what computes the maps, a list or the values of a mapping.
        maps: what they are.
        frozen_bn: whether all batch norms are constants.
        freeze_at: a map: it and all that it is computed from are constants in training; "" for nothing.
        title: what to call the network in messages.

    Raises:
        ValueError: `freeze_at` is no map.
    """

    def __init__(self, net: nn.Module, maps: Maps, *, frozen_bn: bool, freeze_at: str, title: str) -> None:
        super().__init__()
        self.net = net
        self._maps = maps
        self._shapes = {name_of(shape.stride): shape for shape in maps.shapes}
        if freeze_at and freeze_at not in self._shapes:
            raise ValueError(f"freeze_at is {freeze_at!r}; the maps of {title} are {', '.join(self._shapes)}")
        used = frozenset[str]().union(*maps.parameters)
        frozen = maps.parameters[list(self._shapes).index(freeze_at)] if freeze_at else frozenset()
        for name, parameter in net.named_parameters():
            if name in frozen or name not in used:  # some networks keep layers that come after the last map
                parameter.requires_grad_(False)
        for name, module in list(net.named_modules()):
            if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm) and (frozen_bn or f"{name}.weight" in frozen):
                parent, _, leaf = name.rpartition(".")
                setattr(net.get_submodule(parent), leaf, self.constant_norm(module))

    @staticmethod
    def constant_norm(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> nn.Module:
        """The norm with its present statistics for ever."""
        return frozen_batch_norm(norm)

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def divisor(self) -> int:
        return self._maps.divisor

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.net(images)
        found = maps.values() if isinstance(maps, Mapping) else maps
        return {
            name: each.permute(0, 3, 1, 2) if last else each
            for name, each, last in zip(self._shapes, found, self._maps.channels_last, strict=True)
        }

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        own = set(self.state_dict())
        return own_arrays(self, COUNTS) | {name: value for name, value in weights.items() if name in own}

    def positions(self) -> Sequence[str]:
        return [name for name, _ in self.named_parameters() if _POSITIONS.fullmatch(name)]
