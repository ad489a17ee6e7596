"""Building blocks that backbones, necks and heads share: a convolution with its norm and ReLU, frozen batch norm."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["", "frozen_bn", "bn", "sync_bn", "gn", "ln"]


class FrozenBatchNorm(nn.Module):
    """Batch norm whose statistics and affine parameters are constants (buffers), as a scale and a shift per channel."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def affine(self) -> tuple[Tensor, Tensor]:
        """scale (C,) and shift (C,): the norm is x * scale + shift."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.affine()
        return x * scale[:, None, None] + shift[:, None, None]


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of maps (B, C, H, W), of each position by itself (as in ConvNeXt and ViTDet)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def make_norm(norm: Norm, channels: int) -> nn.Module | None:
    """The norm layer of this name for maps (B, channels, H, W), None for ""; group norm has 32 groups (Wu and He,
    2018), fewer where 32 do not divide the channels."""
    match norm:
        case "":
            return None
        case "frozen_bn":
            return FrozenBatchNorm(channels)
        case "bn":
            return nn.BatchNorm2d(channels)
        case "sync_bn":
            return nn.SyncBatchNorm(channels)
        case "gn":
            groups = 32
            while channels % groups:
                groups //= 2
            return nn.GroupNorm(groups, channels)
        case "ln":
            return LayerNorm2d(channels)
    raise ValueError(f"norm {norm!r} is not known; choose one of '', frozen_bn, bn, sync_bn, gn, ln")


def memory_format(device: torch.device, *, gradients: bool) -> torch.memory_format:
    """In which order of memory convolutions are fastest: pixel by pixel (channels last), but for gradients on CPUs
    without AVX-512, where those of a 3x3 convolution take 2.5 times as long in it."""
    old_cpu = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT", "NO AVX")
    return torch.contiguous_format if gradients and old_cpu else torch.channels_last


class Conv(nn.Conv2d):
    """A 2-D convolution (padding keeps the size), then an optional norm, then an optional ReLU.

    Frozen batch norm is folded into the weights as they are used: equal but for rounding, and no pass over the feature
    map.

    Args:
        in_channels, out_channels, kernel, stride, dilation, groups: of the convolution.
        norm: its name, or "" for none; the convolution has a bias only without a norm.
        relu: whether a ReLU follows.
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
        norm: Norm = "",
        relu: bool = False,
    ) -> None:
        padding = dilation * (kernel - 1) // 2
        super().__init__(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=not norm)
        self.norm = make_norm(norm, out_channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.norm, FrozenBatchNorm):
            scale, shift = self.norm.affine()
            weight = self.weight * scale[:, None, None, None]
            x = self._conv_forward(x, weight, shift.to(x.dtype))
        else:
            x = super().forward(x)
            if self.norm is not None:
                x = self.norm(x)
        return F.relu(x, inplace=True) if self.relu else x


def freeze(module: nn.Module) -> None:
    """Make a module constant: no gradients, and batch norms become frozen batch norms with their present statistics."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.SyncBatchNorm):
                setattr(parent, name, frozen_batch_norm(child))


def frozen_batch_norm(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> FrozenBatchNorm:
    """A batch norm as a constant, with its present statistics."""
    frozen = FrozenBatchNorm(norm.num_features, norm.eps).to(norm.running_var)
    frozen.load_state_dict(norm.state_dict(), strict=False)  # it may lack weight and bias, and counts its batches
    return frozen


def init_relu_conv(conv: nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Normal weights for a convolution that a ReLU follows (He et al., 2015, fan out); zero bias."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def init_linear(layer: nn.Conv2d | nn.Linear) -> None:
    """Uniform weights of variance 1 / fan in (Caffe's Xavier filler); zero bias."""
    nn.init.kaiming_uniform_(layer.weight, a=1)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def init_normal(layer: nn.Conv1d | nn.Conv2d | nn.Linear | nn.ConvTranspose2d, std: float) -> None:
    """Normal weights of this standard deviation; zero bias."""
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
