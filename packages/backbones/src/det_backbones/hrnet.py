"""HRNet (Wang et al., Deep High-Resolution Representation Learning for Visual Recognition, 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from det_backbones.arguments import check_freeze_at
from det_backbones.fitting import COUNTS, own_arrays
from det_backbones.resnet_blocks import BasicBlock, BlockStyle, Bottleneck
from detkit.interfaces import Backbone
from detkit.layers import Conv, Norm, freeze, init_relu_conv
from detkit.structures.shape import Shape

FEATURES = ("res2", "res3", "res4", "res5")  # of stride 4, 8, 16, 32, as in a ResNet
STEM_CHANNELS = 64
# What `freeze_at` counts: the stem, and each stage with what leads to it
PARTS = (("stem",), ("stage1",), ("transition1", "stage2"), ("transition2", "stage3"), ("transition3", "stage4"))


class HighResolutionModule(nn.Module):
    """Parallel branches of residual blocks, each half as fine as the one before, and then an exchange between all:
    each branch's new map is the sum of all maps in its size, and a ReLU.

    A coarser map gets there by a 1x1 convolution and repetition of its values; a finer one by 3x3 convolutions of
    stride 2, of which all but the last have a ReLU and keep its channels.

    Args:
        widths: channels of each branch.
        blocks: residual blocks in each branch.
        norm: of every convolution.
    """

    def __init__(self, widths: Sequence[int], *, blocks: int, norm: Norm) -> None:
        super().__init__()
        style = BlockStyle(norm=norm)
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width, stride=1, style=style) for _ in range(blocks))) for width in widths
        )
        # fuse[i][j] brings map j to branch i
        self.fuse = nn.ModuleList(
            nn.ModuleList(_path(widths, source, target, norm) for source in range(len(widths)))
            for target in range(len(widths))
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map (B, width, H, W) for each branch, finest first, to maps of the same shapes."""
        maps = [branch(each) for branch, each in zip(self.branches, maps, strict=True)]
        outputs = []
        for target, paths in enumerate(self.fuse):
            size = maps[target].shape[-2:]
            total = maps[target]
            for source, path in enumerate(cast(nn.ModuleList, paths)):
                if source != target:
                    total = total + _onto(path(maps[source]), 2 ** max(0, source - target), size)
            outputs.append(F.relu(total))
        return outputs


def _path(widths: Sequence[int], source: int, target: int, norm: Norm) -> nn.Module:
    """The convolutions that bring a branch's map to the channels of another, and down to its size if that is
    coarser."""
    if source == target:
        return nn.Identity()
    if source > target:
        return Conv(widths[source], widths[target], 1, norm=norm)
    between = [
        Conv(widths[source], widths[source], 3, stride=2, norm=norm, relu=True) for _ in range(source + 1, target)
    ]
    return nn.Sequential(*between, Conv(widths[source], widths[target], 3, stride=2, norm=norm))


def _onto(coarse: Tensor, factor: int, size: Sequence[int]) -> Tensor:
    """A map whose values are repeated factor times both ways, without what lies beyond the size (height, width)."""
    if factor == 1:
        return coarse
    return F.interpolate(coarse, scale_factor=float(factor), mode="nearest")[..., : size[0], : size[1]]


class HRNet(Backbone):
    """HRNetV2-W18, W32, W40, W48 and others of the family, without their classifier: a map of stride 4 is kept through
    the whole network, beside coarser ones that begin stage by stage, and all exchange what they know many times.

    Two 3x3 convolutions of stride 2, four bottleneck blocks of 256 channels (stage 1), then stages 2, 3 and 4 of
    `HighResolutionModule`s with two, three and four branches. ImageNet weights: those that the authors published, see
    `det_backbones.weights.hrnet`.

    Args:
        width: channels of the finest branch, each coarser one having twice those of the one before: 18, 32, 40, 48.
        norm: of every convolution. "frozen_bn" suits pretrained weights and small batches; training from scratch needs
            "gn", "bn" or "sync_bn". DensePose trains "bn".
        freeze_at: the stem (1) and the first `freeze_at` - 1 stages, each with what leads to it, are constants in
            training; 0 trains everything.
        modules: exchanges in stages 2, 3 and 4.
        blocks: residual blocks in stage 1, and in each branch between two exchanges.

    Raises:
        ValueError: an argument out of range, or not three numbers of modules.

    `forward` takes images (B, 3, H, W) of any size, and returns the branches of stage 4: res2 to res5 (B, width * 1, 2,
    4, 8, H / stride, W / stride), rounded up, of stride 4, 8, 16, 32.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        norm: Norm = "frozen_bn",
        freeze_at: int = 0,
        modules: Sequence[int] = (1, 4, 3),
        blocks: int = 4,
    ) -> None:
        super().__init__()
        check_freeze_at(freeze_at, [names[-1] for names in PARTS])
        if len(modules) != 3 or min(modules) < 1:
            raise ValueError(f"modules is {list(modules)}; give a number of 1 or more for each of stages 2, 3 and 4")
        if width < 1 or blocks < 1:
            raise ValueError(f"width is {width} and blocks is {blocks}; both must be 1 or more")
        widths = [width * 2**number for number in range(len(FEATURES))]
        style = BlockStyle(norm=norm)
        self.stem = nn.Sequential(
            Conv(3, STEM_CHANNELS, 3, stride=2, norm=norm, relu=True),
            Conv(STEM_CHANNELS, STEM_CHANNELS, 3, stride=2, norm=norm, relu=True),
        )
        channels = 4 * STEM_CHANNELS
        self.stage1 = nn.Sequential(
            *(
                Bottleneck(channels if number else STEM_CHANNELS, channels, STEM_CHANNELS, stride=1, style=style)
                for number in range(blocks)
            )
        )

        def stage(branches: int) -> nn.Sequential:
            count = modules[branches - 2]
            return nn.Sequential(
                *(HighResolutionModule(widths[:branches], blocks=blocks, norm=norm) for _ in range(count))
            )

        self.transition1 = nn.ModuleList(
            Conv(channels, widths[branch], 3, stride=branch + 1, norm=norm, relu=True) for branch in range(2)
        )
        self.stage2 = stage(2)
        self.transition2 = Conv(widths[1], widths[2], 3, stride=2, norm=norm, relu=True)
        self.stage3 = stage(3)
        self.transition3 = Conv(widths[2], widths[3], 3, stride=2, norm=norm, relu=True)
        self.stage4 = stage(4)
        for module in self.modules():
            if isinstance(module, Conv):
                init_relu_conv(module)
        for names in PARTS[:freeze_at]:
            for name in names:
                freeze(getattr(self, name))
        self._shapes = {name: Shape(widths[number], 4 * 2**number) for number, name in enumerate(FEATURES)}

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def divisor(self) -> int:
        return 1

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.stage1(self.stem(images))
        maps = self.stage2([transition(x) for transition in self.transition1])
        maps = self.stage3([*maps, self.transition2(maps[-1])])
        maps = self.stage4([*maps, self.transition3(maps[-1])])
        return dict(zip(FEATURES, maps, strict=True))

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return own_arrays(self, COUNTS) | dict(weights)
