"""The simple feature pyramid of ViTDet (Li et al., Exploring Plain Vision Transformer Backbones, 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from det_backbones.arguments import check_choice
from det_backbones.pyramid import chosen, level_name
from detkit.interfaces import Neck
from detkit.layers import Conv, Norm, make_norm
from detkit.structures.shape import Shape

SCALES = (4.0, 2.0, 1.0, 0.5)


class SimpleFPN(Neck):
    """A pyramid from one map, each level by itself: transposed convolutions or max pooling give it its size, a 1x1 and
    a 3x3 convolution its width. Maps p<log2 stride>.

    Args:
        input_shapes: of the backbone's maps.
        in_feature: the map to use; by default the only one that there is.
        channels: of every output.
        scales: sizes of the levels in units of the map's, each half of the one before: of 4, 2, 1 and 0.5.
        norm: of the convolutions, which have a bias without; and between the two transposed ones of scale 4.
        top: "pool": the coarsest level subsampled by 2 (p6, for the RPN). "": nothing.

    Raises:
        ValueError: a map is wanted that there is not, or there are several to choose from; a scale that there is not,
            or scales that do not halve; a level whose stride is no power of 2; a `top` that there is not.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        in_feature: str | None = None,
        channels: int = 256,
        scales: Sequence[float] = (4.0, 2.0, 1.0, 0.5),
        norm: Norm = "ln",
        top: Literal["pool", ""] = "pool",
    ) -> None:
        super().__init__()
        check_choice("top", top, ("pool", ""))
        maps = chosen("SimpleFPN", input_shapes, None if in_feature is None else [in_feature])
        if len(maps) != 1:
            raise ValueError(f"SimpleFPN makes a pyramid of one map; choose in_feature from {', '.join(maps)}")
        ((self.in_feature, source),) = maps.items()
        if list(scales) not in [list(SCALES[begin:end]) for end in range(5) for begin in range(end)]:
            raise ValueError(f"scales is {list(scales)}; one or more of 4, 2, 1, 0.5 in this order, without gaps")
        strides = [int(source.stride / scale) for scale in scales]
        if any(stride & (stride - 1) for stride in strides) or source.stride < scales[0]:
            raise ValueError(
                f"SimpleFPN makes levels of strides {strides} from a map of stride {source.stride}; powers of 2 are "
                "needed, as from patches of 8, 16 or 32 pixels"
            )
        self.levels = nn.ModuleDict()
        self._shapes: dict[str, Shape] = {}
        for scale, stride in zip(scales, strides, strict=True):
            resize, width = _resize(source.channels, scale, norm)
            convs = Conv(width, channels, 1, norm=norm), Conv(channels, channels, 3, norm=norm)
            self.levels[level_name(stride)] = nn.Sequential(*resize, *convs)
            self._shapes[level_name(stride)] = Shape(channels, stride)
        self._divisor = strides[-1]
        self.coarsest, self.top = level_name(strides[-1]), None if top == "" else level_name(2 * strides[-1])
        if self.top:
            self._shapes[self.top] = Shape(channels, 2 * strides[-1])

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def divisor(self) -> int:
        return self._divisor

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = {name: level(features[self.in_feature]) for name, level in self.levels.items()}
        if self.top:
            outputs[self.top] = F.max_pool2d(outputs[self.coarsest], kernel_size=1, stride=2)
        return outputs


def _resize(channels: int, scale: float, norm: Norm) -> tuple[list[nn.Module], int]:
    """Layers that give a map of so many channels another size, and the channels that it has then."""
    if scale == 4:
        between = make_norm(norm, channels // 2)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(channels, channels // 2, 2, stride=2),
            *([between] if between is not None else []),
            nn.GELU(),
            nn.ConvTranspose2d(channels // 2, channels // 4, 2, stride=2),
        ]
        return layers, channels // 4
    if scale == 2:
        return [nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)], channels // 2
    if scale == 0.5:
        return [nn.MaxPool2d(2, stride=2)], channels
    return [], channels
