"""ConvNeXt (Liu et al., A ConvNet for the 2020s, 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from det_backbones.arguments import check_freeze_at, check_lengths, wanted_stages
from det_backbones.attention import drop_path, drop_path_rates
from det_backbones.fitting import own_arrays
from detkit.interfaces import Backbone
from detkit.layers import LayerNorm2d, freeze
from detkit.structures.shape import Shape

STD = 0.02  # of initial weights
GROUP = 3  # blocks of the long third stage that share a learning rate


class Block(nn.Module):
    """A depthwise 7x7 convolution, a norm, and two linear layers on each position, with a shortcut.

    Args:
        width: channels.
        layer_scale: with which each channel of the branch begins.
        rate: probability with which an image leaves out the branch in training.
    """

    def __init__(self, width: int, *, layer_scale: float, rate: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), layer_scale))
        self.drop_path = drop_path(rate)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        found: Tensor = x + self.drop_path(y.permute(0, 3, 1, 2))
        return found


class ConvNeXt(Backbone):
    """ConvNeXt without its classifier: a ResNet's stages, of depthwise convolutions and layer norms.

    ConvNeXt-T is the default; -S, -B, -L and -XL have 27 blocks in the third stage, and -B, -L and -XL widths from
    128, 192 and 256. Their ImageNet-1k accuracy as published is 82.1, 83.1, 83.8 and 84.3 for T, S, B and L; 86.6 for
    L and 87.0 for XL, pretrained on ImageNet-22k (224 pixels).

    Args:
        depths: blocks in each stage.
        dims: channels of each stage.
        layer_scale: with which each channel of a block's branch begins.
        drop_path: probability with which an image leaves out the last block in training; it grows linearly from 0 at
            the first. The paper's detectors have 0.4 (T), 0.6 (S), 0.7 (B, L) and 0.8 (XL).
        freeze_at: the stem (1) and the first `freeze_at` - 1 stages, each with what leads on from it, are constants in
            training; 0 trains everything.
        checkpointing: whether training computes activations twice to save memory.
        out_features: the stages to return, each normalised: p0, p1, p2, p3 of stride 4, 8, 16, 32. Stages after the
            last are not built.

    Raises:
        ValueError: an argument out of range, or lengths of `depths` and `dims` that differ.

    `forward` takes images (B, 3, H, W), sides multiples of `divisor`, and returns (B, C, H / stride, W / stride) for
    each of `out_features`.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int] = (3, 3, 9, 3),
        dims: Sequence[int] = (96, 192, 384, 768),
        layer_scale: float = 1e-6,
        drop_path: float = 0.0,
        freeze_at: int = 0,
        checkpointing: bool = False,
        out_features: Sequence[str] = ("p0", "p1", "p2", "p3"),
    ) -> None:
        super().__init__()
        check_lengths(depths=depths, dims=dims)
        names = [f"p{stage}" for stage in range(len(depths))]
        check_freeze_at(freeze_at, ("the stem", *names))
        rates = drop_path_rates(drop_path, sum(depths))
        count = len(wanted_stages(names, out_features))
        self._stages = len(depths)
        self.checkpointing = checkpointing
        stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, stride=4), LayerNorm2d(dims[0]))
        self.downsample_layers = nn.ModuleList([stem])
        self.stages = nn.ModuleList()
        for stage in range(count):
            if stage:
                conv = nn.Conv2d(dims[stage - 1], dims[stage], 2, stride=2)
                self.downsample_layers.append(nn.Sequential(LayerNorm2d(dims[stage - 1]), conv))
            first = sum(depths[:stage])
            own = rates[first : first + depths[stage]] if stage >= freeze_at - 1 else [0.0] * depths[stage]
            blocks = [Block(dims[stage], layer_scale=layer_scale, rate=rate) for rate in own]
            self.stages.append(nn.Sequential(*blocks))
        self._shapes = {name: Shape(dims[i], 4 * 2**i) for i, name in enumerate(names) if name in out_features}
        for stage, name in enumerate(names):
            if name in out_features:
                self.add_module(f"norm{stage}", LayerNorm2d(dims[stage]))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=STD)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for layer in (*self.downsample_layers[:freeze_at], *self.stages[: max(0, freeze_at - 1)]):
            freeze(layer)

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, features = images, {}
        for number, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            assert isinstance(stage, nn.Sequential)
            x = downsample(x)
            for block in stage:
                x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
            if f"p{number}" in self._shapes:
                features[f"p{number}"] = getattr(self, f"norm{number}")(x)
        return features

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Norms of outputs begin as new ones."""
        missing = range(len(self.stages), self._stages)
        absent = tuple(f"{part}.{stage}." for part in ("downsample_layers", "stages") for stage in missing)
        fitting = {name: value for name, value in weights.items() if not name.startswith(absent)}
        return own_arrays(self, "^norm") | fitting

    def layer_prefixes(self) -> Sequence[Sequence[str]]:
        """The stem, the stages, the third in groups of three blocks; what leads to a stage goes with its beginning,
        and norms of outputs come after the last (as in the paper's fine-tuning)."""
        layers = [["downsample_layers.0"]]
        for number, stage in enumerate(self.stages):
            assert isinstance(stage, nn.Sequential)
            step = GROUP if number == 2 else len(stage)
            for first in range(0, len(stage), step):
                layers.append([f"stages.{number}.{block}" for block in range(first, min(first + step, len(stage)))])
                if number and first == 0:
                    layers[-1].insert(0, f"downsample_layers.{number}")
        return layers
