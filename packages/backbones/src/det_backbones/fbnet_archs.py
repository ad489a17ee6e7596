"""D2Go's architectures of FBNet: the blocks of the backbone and of the heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from det_backbones.arguments import check_choice

Arch = Literal[
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
    "a_no_se",
    "a_dsmask",
    "a_dsmask_tiny",
    "b_no_se",
    "b_light_no_se",
    "mobilenet_v2",
]
Part = Literal["rpn", "box", "mask", "keypoint"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Layers of one kind, one after the other.

    Args:
        channels: of the output of each.
        kind: "ir", inverted residual blocks, or "conv", plain convolutions.
        kernel: the side of the (depthwise) convolution, odd.
        stride: of the first layer; -2 enlarges by 2, in an inverted residual block.
        repeat: how many layers.
        expansion: of inverted residual blocks: how many times wider than its input the depthwise convolution is.
        squeeze: of inverted residual blocks: whether they weigh their channels (squeeze and excitation).

    Raises:
        ValueError: an argument out of range.
    """

    channels: int
    kind: Literal["ir", "conv"] = "ir"
    kernel: int = 3
    stride: int = 1
    repeat: int = 1
    expansion: float = 1
    squeeze: bool = False

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("ir", "conv"))
        if min(self.channels, self.kernel, self.repeat) < 1 or self.kernel % 2 == 0 or self.expansion <= 0:
            raise ValueError(
                f"channels {self.channels}, kernel {self.kernel}, repeat {self.repeat}, expansion {self.expansion}: "
                "all must be above 0, and the kernel odd"
            )
        if self.stride not in ((1, 2) if self.kind == "conv" else (-2, 1, 2)):
            raise ValueError(
                f"stride is {self.stride}; it must be 1 or 2, or -2 to enlarge in an inverted residual block"
            )
        if self.kind == "conv" and (self.expansion != 1 or self.squeeze):
            raise ValueError(
                "expansion and squeeze are of inverted residual blocks; leave them out, or choose kind 'ir'"
            )


Stage = Sequence[Block]


def _stem(channels: int) -> Block:
    return Block(kind="conv", channels=channels, stride=2)


def _ir(channels: int, kernel: int, expansion: int, repeat: int = 1, stride: int = 1, squeeze: bool = False) -> Block:
    return Block(channels=channels, kernel=kernel, expansion=expansion, repeat=repeat, stride=stride, squeeze=squeeze)


def _stage(channels: int, *, first: tuple[int, int], rest: tuple[int, int, int], squeeze: bool = False) -> list[Block]:
    """A block of stride 2 and others after it: kernel and expansion of the first; those of the rest, and how many."""
    kernel, expansion = first
    return [_ir(channels, kernel, expansion, 1, 2, squeeze), _ir(channels, *rest, squeeze=squeeze)]


def _wider(channels: int, *, first: tuple[int, int], rest: tuple[int, int, int], squeeze: bool) -> list[Block]:
    """As `_stage`, with stride 1."""
    return [_ir(channels, *first, squeeze=squeeze), _ir(channels, *rest, squeeze=squeeze)]


def _a(*, se: bool) -> list[list[Block]]:
    return [
        [_stem(16), _ir(16, 3, 1, 2)],
        _stage(24, first=(5, 4), rest=(5, 3, 3)),
        _stage(32, first=(5, 4), rest=(3, 3, 3), squeeze=se),
        [*_stage(64, first=(5, 4), rest=(3, 3, 3)), *_wider(112, first=(5, 4), rest=(5, 3, 5), squeeze=se)],
        [*_stage(184, first=(5, 4), rest=(3, 4, 4), squeeze=se), _ir(200, 5, 6, squeeze=se)],
    ]


def _b(*, se: bool, light: bool = False) -> list[list[Block]]:
    fewer = int(light)
    return [
        [_stem(16), _ir(16, 3, 1, 2)],
        _stage(24, first=(5, 4), rest=(5, 2, 3 - fewer)),
        _stage(40, first=(5, 5), rest=(5, 3, 4 - fewer), squeeze=se),
        [*_stage(72, first=(5, 5), rest=(3, 3, 4)), *_wider(120, first=(3, 5), rest=(5, 3, 5), squeeze=se)],
        [*_stage(184, first=(3, 6), rest=(5, 4, 5), squeeze=se), _ir(224, 5, 6, squeeze=se)],
    ]


_TRUNKS: dict[str, list[list[Block]]] = {
    "a": _a(se=True),
    "b": _b(se=True),
    "c": [
        [_stem(16), _ir(16, 3, 1, 2)],
        _stage(24, first=(5, 5), rest=(3, 3, 4)),
        _stage(48, first=(5, 5), rest=(5, 2, 4), squeeze=True),
        [*_stage(88, first=(5, 4), rest=(3, 3, 4)), *_wider(120, first=(3, 4), rest=(5, 3, 5), squeeze=True)],
        [*_stage(216, first=(5, 5), rest=(5, 5, 5), squeeze=True), _ir(216, 5, 6, squeeze=True)],
    ],
    "d": [
        [_stem(24), _ir(16, 3, 1, 2)],
        _stage(24, first=(3, 5), rest=(3, 2, 5)),
        _stage(40, first=(5, 4), rest=(3, 3, 4), squeeze=True),
        [*_stage(72, first=(3, 5), rest=(3, 3, 4)), *_wider(128, first=(3, 5), rest=(5, 3, 6), squeeze=True)],
        [*_stage(208, first=(3, 6), rest=(5, 5, 5), squeeze=True), _ir(240, 5, 6, squeeze=True)],
    ],
    "e": [
        [_stem(24), _ir(16, 3, 1, 3)],
        _stage(24, first=(5, 4), rest=(5, 2, 4)),
        _stage(48, first=(5, 4), rest=(5, 3, 4), squeeze=True),
        [*_stage(80, first=(5, 5), rest=(3, 3, 4)), *_wider(128, first=(3, 5), rest=(5, 3, 7), squeeze=True)],
        [*_stage(216, first=(3, 6), rest=(5, 5, 5), squeeze=True), _ir(240, 5, 6, squeeze=True)],
    ],
    "f": [
        [_stem(24), _ir(24, 3, 1, 3)],
        _stage(32, first=(5, 4), rest=(5, 2, 4)),
        _stage(56, first=(5, 4), rest=(5, 3, 4), squeeze=True),
        [*_stage(88, first=(5, 5), rest=(3, 3, 4)), *_wider(144, first=(3, 5), rest=(5, 3, 8), squeeze=True)],
        [*_stage(248, first=(3, 6), rest=(5, 5, 6), squeeze=True), _ir(272, 5, 6, squeeze=True)],
    ],
    "g": [
        [_stem(32), _ir(24, 3, 1, 3)],
        _stage(40, first=(5, 4), rest=(5, 2, 4)),
        _stage(56, first=(5, 4), rest=(5, 3, 4), squeeze=True),
        [*_stage(104, first=(5, 5), rest=(3, 3, 4)), *_wider(160, first=(3, 5), rest=(5, 3, 8), squeeze=True)],
        [*_stage(264, first=(3, 6), rest=(5, 5, 6), squeeze=True), _ir(288, 5, 6, 2, squeeze=True)],
    ],
    "h": [
        [_stem(48), _ir(32, 3, 1, 4)],
        _stage(64, first=(5, 4), rest=(5, 2, 6)),
        _stage(80, first=(5, 4), rest=(5, 3, 6), squeeze=True),
        [*_stage(160, first=(5, 5), rest=(3, 3, 6)), *_wider(240, first=(3, 5), rest=(5, 3, 12), squeeze=True)],
        [*_stage(400, first=(3, 6), rest=(5, 5, 8), squeeze=True), _ir(480, 5, 6, 3, squeeze=True)],
    ],
    "a_no_se": _a(se=False),
    "a_dsmask": [
        [_stem(16), _ir(16, 3, 1)],
        _stage(32, first=(5, 4), rest=(5, 2, 1)),
        _stage(40, first=(5, 4), rest=(3, 3, 3)),
        [*_stage(72, first=(5, 4), rest=(3, 3, 3)), _ir(112, 5, 4, 4)],
        [*_stage(184, first=(5, 4), rest=(3, 4, 4)), _ir(200, 5, 6)],
    ],
    "a_dsmask_tiny": [
        [_stem(8), _ir(8, 3, 1)],
        _stage(16, first=(5, 3), rest=(5, 2, 1)),
        _stage(24, first=(5, 4), rest=(3, 3, 2)),
        [*_stage(40, first=(5, 4), rest=(3, 3, 2)), _ir(64, 5, 4), _ir(64, 5, 3, 2)],
        [*_stage(92, first=(5, 4), rest=(3, 4, 2)), _ir(92, 5, 6)],
    ],
    "b_no_se": _b(se=False),
    "b_light_no_se": _b(se=False, light=True),
    "mobilenet_v2": [
        [_stem(32), _ir(16, 3, 1)],
        [_ir(24, 3, 6, 2, 2)],
        [_ir(32, 3, 6, 3, 2)],
        [_ir(64, 3, 6, 4, 2), _ir(96, 3, 6, 3)],
        [_ir(160, 3, 6, 3, 2), _ir(320, 3, 6)],
    ],
}

_LARGE_BOX = [_ir(160, 3, 4, stride=2), _ir(160, 3, 6, 2), _ir(240, 3, 6)]
_SMALL_BOX = [_ir(128, 3, 4, stride=2), _ir(128, 3, 6, 2), _ir(160, 3, 6)]
_TINY_BOX = [_ir(64, 3, 4, stride=2), _ir(64, 3, 4, 2), _ir(80, 3, 4)]

# Regions become twice as large, at last
_LARGE_MASK = [_ir(160, 3, 4), _ir(160, 3, 6, 3), _ir(80, 3, 3, stride=-2)]
_DEEP_MASK = [_ir(192, 3, 4), _ir(192, 3, 3, 5), _ir(96, 3, 3, stride=-2)]
_PYRAMID_MASK = [_ir(96, 3, 6), _ir(160, 3, 6, 3), _ir(80, 3, 3, stride=-2)]

# The same, most of it at half the size ("dsmask": downsampled)
_SMALL_MASK = [_ir(128, 3, 4, stride=2), _ir(128, 3, 6, 2), _ir(128, 3, 6, stride=-2), _ir(64, 3, 3, stride=-2)]
_TINY_MASK = [_ir(64, 3, 4, stride=2), _ir(64, 3, 4, 2), _ir(64, 3, 4, stride=-2), _ir(40, 3, 3, stride=-2)]

# What the heads of an architecture have, where it is not what the backbone has: the RPN repeats the last block of
# trunk3, the box head has the blocks of trunk4
_HEADS: dict[str, dict[str, list[Block]]] = {
    "a": {"mask": _SMALL_MASK},
    "b": {},
    "c": {},
    "d": {},
    "e": {},
    "f": {},
    "g": {"mask": _LARGE_MASK, "keypoint": _DEEP_MASK},
    "h": {},
    "a_no_se": {},
    "a_dsmask": {"box": _SMALL_BOX, "mask": _SMALL_MASK, "keypoint": _SMALL_MASK},
    "a_dsmask_tiny": {"box": _TINY_BOX, "mask": _TINY_MASK, "keypoint": _TINY_MASK},
    "b_no_se": {"box": _LARGE_BOX, "mask": _SMALL_MASK, "keypoint": _DEEP_MASK},
    "b_light_no_se": {"box": _SMALL_BOX, "mask": _SMALL_MASK, "keypoint": _DEEP_MASK},
    "mobilenet_v2": {"box": _LARGE_BOX, "mask": _LARGE_MASK, "keypoint": _LARGE_MASK},
}


def _whole(trunk: list[list[Block]], heads: dict[str, list[Block]]) -> Mapping[str, Sequence[Stage]]:
    return {
        "trunk": trunk,
        "rpn": [trunk[3][-1:]],
        "box": [trunk[4]],
        **{part: [blocks] for part, blocks in heads.items()},
    }


_PYRAMID_RPN = [_ir(160, 5, 3, squeeze=True)]

ARCHS: Mapping[str, Mapping[str, Sequence[Stage]]] = {
    **{name: _whole(_TRUNKS[name], heads) for name, heads in _HEADS.items()},
    "g_fpn": _whole(_TRUNKS["g"], {"rpn": _PYRAMID_RPN, "mask": _PYRAMID_MASK, "keypoint": _DEEP_MASK}),
}
"""Architecture -> the stages of its backbone (`trunk`) and of its heads (`Part`)."""
