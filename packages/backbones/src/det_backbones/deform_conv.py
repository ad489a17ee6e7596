"""Deformable convolution (Dai et al., 2017; version 2: Zhu et al., Deformable ConvNets v2, 2018)."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from detkit.layers import Conv, Norm


class DeformConv(Conv):
    """A convolution whose kernel points move at every position, by offsets that another convolution of the same input
    gives. Modulated (version 2) it also weights each point, from 0 to 1. Then norm and ReLU as in `Conv`.

    Channels of `offset`, for each of `deform_groups`: y and x of every kernel point in turn, and after those of all
    groups the logits of the points' weights. It begins from zeros: a plain convolution, whose points count half if
    modulated.

    Args:
        in_channels, out_channels, kernel, stride, dilation, groups, norm, relu: see `Conv`.
        deform_groups: parts of the input's channels with offsets of their own.
        modulated: whether points have weights.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        deform_groups: int = 1,
        modulated: bool = False,
        norm: Norm = "",
        relu: bool = False,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel, stride=stride, dilation=dilation, groups=groups, norm=norm, relu=relu
        )
        self.modulated = modulated
        channels = deform_groups * kernel**2 * (3 if modulated else 2)
        self.offset = nn.Conv2d(in_channels, channels, kernel, stride, dilation * (kernel - 1) // 2, dilation)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # torchvision's kernels want one type for all, which is the weights' where autocast has lowered the input's
        offset, mask = self.offset(x).to(weight.dtype), None
        if self.modulated:
            points = offset.shape[1] // 3
            offset, mask = offset.split([2 * points, points], dim=1)
            mask = mask.sigmoid()
        bias = None if bias is None else bias.to(weight.dtype)
        moved: Tensor = deform_conv2d(
            x.to(weight.dtype), offset, weight, bias, self.stride, self.padding, self.dilation, mask
        )
        return moved.to(x.dtype)
