"""ResNet (He et al., Deep Residual Learning for Image Recognition, 2015), ResNeXt (Xie et al., Aggregated Residual
Transformations, 2017), and both with dilated or deformable convolutions, squeeze-excite or non-local blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor

from det_backbones.arguments import check_choice, check_freeze_at, check_stages, regions_of
from det_backbones.fitting import COUNTS, own_arrays
from det_backbones.resnet_blocks import BlockStyle, DeepStem, Stem, expansion, stage
from det_backbones.staged import StagedBackbone
from detkit.interfaces import RoiTrunk
from detkit.layers import Norm
from detkit.structures.shape import Shape

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
STAGES = ("res2", "res3", "res4", "res5")
DILATIONS = {32: (1, 1, 1, 1), 16: (1, 1, 1, 2), 8: (1, 1, 2, 4)}  # output stride -> of each stage
# Plain ResNets have neither offsets nor non-local blocks, which begin from doing nothing
FRESH = rf"\.(?:offset|non_local)\.|{COUNTS}"


class ResNet(StagedBackbone):
    """ResNet-18, 34, 50, 101 or 152 without its classifier, and what is made from it by changing its stem or blocks:
    ResNeXt, wide ResNets, SE-ResNet (Hu et al., Squeeze-and-Excitation Networks, 2018), DeepLab's.

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm: of every convolution. "frozen_bn" suits pretrained weights and small batches; training from scratch needs
            "gn", "bn" or "sync_bn".
        freeze_at: the stem (1) and the stages up to res<freeze_at> are constants in training; 0 trains everything.
        stride_in_1x1: where a bottleneck's stride is: False for torchvision's weights, True for the original ones
            (MSRA).
        width: of res2; its blocks return that many channels, bottlenecks four times as many. 64 in the paper.
        stem: "basic", a 7x7 convolution, or "deep", three of 3x3 (DeepLab's, in ResNets called 52 and 103).
        stem_channels: of the stem's output: `width` by default, twice as many in a deep stem.
        groups: of a bottleneck's 3x3 convolution: 32 in ResNeXt-101 32x8d.
        width_per_group: channels of each of them in res2, 8 in ResNeXt-101 32x8d; `width` by default.
        output_stride: of res5. 16 keeps it at the stride of res4, by convolutions with dilation 2 ("DC5"); 8 keeps res4
            too at that of res3, with dilations 2 and 4.
        multi_grid: factors of the dilation in each block of res5, such as 1, 2, 4 (DeepLabv3; Chen et al., 2017).
        deform: stages whose 3x3 convolutions are deformable, such as res3, res4, res5.
        deform_groups: parts of the channels with offsets of their own.
        modulated: whether deformable convolutions weight their points (version 2).
        squeeze_excite: whether blocks weight their channels before the shortcut is added.
        non_local: stage -> its blocks, counted from 0, that a non-local block follows: {res4: [4]} has one before the
            last block of a ResNet-50's res4.
        out_features: the stages to return, of res2, res3, res4, res5. Stages after the last are not built.

    Raises:
        ValueError: an argument out of range, or groups or deformable convolutions in a depth without bottlenecks.

    `forward` takes images (B, 3, H, W) of any size, and returns (B, C, H / stride, W / stride), rounded up, for each
    of `out_features`, of stride 4, 8, 16, 32, `output_stride` at most.
    """

    fresh = FRESH

    def __init__(
        self,
        *,
        depth: Literal[18, 34, 50, 101, 152] = 50,
        norm: Norm = "frozen_bn",
        freeze_at: int = 0,
        stride_in_1x1: bool = False,
        width: int = 64,
        stem: Literal["basic", "deep"] = "basic",
        stem_channels: int | None = None,
        groups: int = 1,
        width_per_group: int | None = None,
        output_stride: Literal[8, 16, 32] = 32,
        multi_grid: Sequence[int] = (),
        deform: Sequence[str] = (),
        deform_groups: int = 1,
        modulated: bool = False,
        squeeze_excite: bool = False,
        non_local: Mapping[str, Sequence[int]] | None = None,
        out_features: Sequence[str] = STAGES,
    ) -> None:
        super().__init__(STAGES, out_features)
        non_local = non_local or {}
        _check_blocks(depth, groups, width_per_group, deform)
        check_stages(STAGES, deform=deform, non_local=tuple(non_local))
        _check_positions(depth, multi_grid, non_local)
        check_choice("stem", stem, ("basic", "deep"))
        check_choice("output_stride", output_stride, DILATIONS)
        check_freeze_at(freeze_at, ("stem", *STAGES))
        style = BlockStyle(
            norm=norm,
            stride_in_1x1=stride_in_1x1,
            groups=groups,
            deform_groups=deform_groups,
            modulated=modulated,
            squeeze_excite=squeeze_excite,
        )
        channels = stem_channels or (width if stem == "basic" else 2 * width)
        self.stem = Stem(channels, norm) if stem == "basic" else DeepStem(channels, norm)
        stride = 4
        for index, name in enumerate(self.stages):
            dilation = DILATIONS[output_stride][index]
            step = 1 if name == "res2" or dilation > 1 else 2
            factors = multi_grid if multi_grid and name == "res5" else (1,) * BLOCKS[depth][index]
            styles = [
                replace(
                    style,
                    dilation=dilation * factor,
                    deformable=name in deform,
                    non_local=position in non_local.get(name, ()),
                )
                for position, factor in enumerate(factors)
            ]
            scale = 2**index
            group_width = (width_per_group or width) * scale
            blocks = stage(depth, channels, width=width * scale, group_width=group_width, stride=step, styles=styles)
            channels, stride = width * scale * expansion(depth), stride * step
            self.add_stage(name, blocks, Shape(channels, stride))
        self.freeze_parts(freeze_at)


class ResNetRes5(RoiTrunk):
    """The last stage of a ResNet, on pooled regions: with 14 x 14 of them, maps of 7 x 7 for the heads ("C4" models).

    Args:
        input_shapes: of the regions, pooled from res4, or of the maps that they are pooled from.
        depth, norm, stride_in_1x1, width, groups, width_per_group, squeeze_excite: of the ResNet, see `ResNet`.

    Raises:
        ValueError: an argument out of range, groups in a depth without bottlenecks, or maps of several widths.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        depth: Literal[18, 34, 50, 101, 152] = 50,
        norm: Norm = "frozen_bn",
        stride_in_1x1: bool = False,
        width: int = 64,
        groups: int = 1,
        width_per_group: int | None = None,
        squeeze_excite: bool = False,
    ) -> None:
        super().__init__()
        _check_blocks(depth, groups, width_per_group)
        style = BlockStyle(norm=norm, stride_in_1x1=stride_in_1x1, groups=groups, squeeze_excite=squeeze_excite)
        region = regions_of(input_shapes)
        self.res5 = stage(
            depth,
            region.channels,
            width=8 * width,
            group_width=8 * (width_per_group or width),
            stride=2,
            styles=[style] * BLOCKS[depth][-1],
        )
        self._shapes = {"region": Shape(8 * width * expansion(depth), 2 * region.stride)}

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def forward(self, regions: Tensor) -> Tensor:
        found: Tensor = self.res5(regions)
        return found

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return own_arrays(self, FRESH) | {name: value for name, value in weights.items() if name.startswith("res5.")}


def _check_blocks(depth: int, groups: int, width_per_group: int | None, deform: Sequence[str] = ()) -> None:
    check_choice("depth", depth, BLOCKS)
    if depth < 50 and (groups != 1 or width_per_group is not None or deform):
        raise ValueError(
            f"groups, width_per_group and deform are of bottlenecks, which ResNet-{depth} does not have; "
            "leave them out, or choose depth 50, 101 or 152"
        )


def _check_positions(depth: int, multi_grid: Sequence[int], non_local: Mapping[str, Sequence[int]]) -> None:
    blocks = dict(zip(STAGES, BLOCKS[depth], strict=True))
    if multi_grid and len(multi_grid) != blocks["res5"]:
        raise ValueError(f"multi_grid is {list(multi_grid)}; res5 of ResNet-{depth} has {blocks['res5']} blocks")
    for name, positions in non_local.items():
        if any(not 0 <= position < blocks[name] for position in positions):
            raise ValueError(f"non_local of {name} is {list(positions)}; its blocks are 0 to {blocks[name] - 1}")
