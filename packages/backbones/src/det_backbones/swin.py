"""Swin Transformer (Liu et al., Hierarchical Vision Transformer using Shifted Windows, 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from det_backbones.arguments import check_freeze_at, check_lengths, wanted_stages
from det_backbones.attention import (
    MLP,
    drop_path,
    drop_path_rates,
    init_transformer,
    window_merge,
    window_partition,
)
from det_backbones.fitting import own_arrays
from detkit.interfaces import Backbone
from detkit.layers import freeze
from detkit.structures.shape import Shape

PATCH = 4  # pixels
STD = 0.02  # of initial positions
APART = -100.0  # added to the logits of pairs that must not see each other


def relative_index(side: int, device: torch.device) -> Tensor:
    """(side * side, side * side): the row of the table of biases for each pair of positions of a window. Rows are
    ordered by the vertical difference, from 1 - side on, then by the horizontal one."""
    steps = torch.arange(side, device=device)
    difference = steps[:, None] - steps + side - 1
    pairs = difference[:, None, :, None] * (2 * side - 1) + difference[None, :, None, :]
    return pairs.reshape(side * side, side * side)


def shift_mask(height: int, width: int, side: int, device: torch.device) -> Tensor:
    """(windows, side * side, side * side): what is added to the logits in a map that is shifted by half a window. Its
    last windows hold what was at opposite borders, and no position there may see the other border's."""

    def bands(length: int) -> Tensor:
        at = torch.arange(length, device=device)
        return (at >= length - side).long() + (at >= length - side // 2).long()

    regions = 3 * bands(height)[:, None] + bands(width)
    windows = window_partition(regions[None, :, :, None], side).flatten(1)
    return (windows[:, None] != windows[:, :, None]) * APART


class WindowAttention(nn.Module):
    """Self-attention within windows, with a bias for each relative position and head.

    Args:
        width: channels; heads: that share them; side: of a window; qkv_bias: whether queries, keys and values have one.
    """

    def __init__(self, width: int, heads: int, side: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=STD)

    def forward(self, x: Tensor, index: Tensor, mask: Tensor | None) -> Tensor:
        """x (B * windows, N, C); index (N, N) of the table; mask (windows, N, N) to add to the logits."""
        rows, count, width = x.shape
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(rows // mask.shape[0], 1, 1, 1)
        query, key, value = self.qkv(x).view(rows, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        found: Tensor = self.proj(x.transpose(1, 2).reshape(rows, count, width))
        return found


class Block(nn.Module):
    """Attention within windows, shifted or not, then two linear layers; each with a norm before and a shortcut.

    Args:
        width, heads, side, qkv_bias: see `WindowAttention`.
        shifted: whether windows are moved by half their side.
        mlp_ratio: hidden channels per channel.
        rate: probability with which an image leaves out a branch in training.
    """

    def __init__(
        self, width: int, heads: int, side: int, *, shifted: bool, mlp_ratio: float, qkv_bias: bool, rate: float
    ) -> None:
        super().__init__()
        self.side = side
        self.shift = side // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, side, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, int(width * mlp_ratio))
        self.drop_path = drop_path(rate)

    def forward(self, x: Tensor, index: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, H, W, C); `index` and `mask` (of the padded map): see `WindowAttention`."""
        x = x + self.drop_path(self._attended(self.norm1(x), index, mask))
        found: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return found

    def _attended(self, x: Tensor, index: Tensor, mask: Tensor | None) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % self.side, 0, -height % self.side))
        padded_height, padded_width = x.shape[1:3]
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = window_partition(x, self.side)
        found = self.attn(windows.flatten(1, 2), index, mask if self.shift else None).view(windows.shape)
        x = window_merge(found, padded_height, padded_width)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """(B, H, W, C) -> (B, H / 2, W / 2, 2 C), rounded up: four neighbours become one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
        found: Tensor = self.reduction(self.norm(x))
        return found


class Stage(nn.Module):
    """Blocks with plain and shifted windows in turn, and what leads to the next stage, if there is one.

    Args:
        blocks: of the stage.
        side: of a window.
        downsample: what follows the blocks; `forward` leaves it to its caller.
        checkpointing: whether training keeps only what enters a block.
    """

    def __init__(
        self, blocks: Sequence[Block], side: int, downsample: PatchMerging | None, *, checkpointing: bool
    ) -> None:
        super().__init__()
        self.side = side
        self.checkpointing = checkpointing
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """x (B, H, W, C) through the blocks."""
        height, width = (length + -length % self.side for length in x.shape[1:3])
        mask = shift_mask(height, width, self.side, x.device)
        for block in self.blocks:
            if self.checkpointing and self.training:
                x = checkpoint(block, x, index, mask, use_reentrant=False)
            else:
                x = block(x, index, mask)
        return x


class PatchEmbed(nn.Module):
    """Images (B, 3, H, W) -> (B, H / 4, W / 4, width), rounded up."""

    def __init__(self, width: int, *, norm: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(width) if norm else None

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        x: Tensor = self.proj(F.pad(images, (0, -width % PATCH, 0, -height % PATCH))).permute(0, 2, 3, 1)
        return x if self.norm is None else self.norm(x)


class SwinTransformer(Backbone):
    """Swin Transformer without its classifier: stages of attention within windows, each of half the resolution and
    twice the width of the one before.

    Swin-T is the default; -S, -B and -L have 18 blocks in the third stage, and -B and -L an `embed_dim` of 128 and
    192 with heads of 32 channels: `num_heads` (4, 8, 16, 32) and (6, 12, 24, 48). Their ImageNet-1k accuracy as
    published is 81.3, 83.0 and 83.5 for T, S and B; 86.3 for L, pretrained on ImageNet-22k (window 7, 224 pixels).

    Args:
        embed_dim: channels of the first stage.
        depths: blocks in each stage.
        num_heads: attention heads in each stage.
        window: side of a window, in positions of the map: 7, or 12 where pretrained with 384 pixels.
        mlp_ratio: hidden channels of a block's linear layers, per channel.
        qkv_bias: whether queries, keys and values have a bias.
        patch_norm: whether patches are normalised.
        absolute_positions: side of a square grid of learnt positions, in patches (56 for 224 pixels), which is resized
            to the images; 0 for none, as in the published weights.
        drop_path: probability with which an image leaves out a branch of the last block in training; it grows
            linearly from 0 at the first. The paper trains T, S and B with 0.2, 0.3 and 0.5; Detectron2's detectors
            with B and L have 0.4.
        freeze_at: the patches and positions (1) and the first `freeze_at` - 1 stages, each with what leads on from it,
            are constants in training; 0 trains everything.
        checkpointing: whether training computes activations twice to save memory.
        out_features: the stages to return, each normalised: p0, p1, p2, p3 of stride 4, 8, 16, 32. Stages after the
            last are not built.

    Raises:
        ValueError: an argument out of range, or lengths of `depths` and `num_heads` that differ.

    `forward` takes images (B, 3, H, W) of any size, and returns (B, C, H / stride, W / stride), rounded up, for each
    of `out_features`.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        patch_norm: bool = True,
        absolute_positions: int = 0,
        drop_path: float = 0.0,
        freeze_at: int = 0,
        checkpointing: bool = False,
        out_features: Sequence[str] = ("p0", "p1", "p2", "p3"),
    ) -> None:
        super().__init__()
        check_lengths(depths=depths, num_heads=num_heads)
        widths = [embed_dim * 2**stage for stage in range(len(depths))]
        if any(width % heads for width, heads in zip(widths, num_heads, strict=True)):
            raise ValueError(f"num_heads is {list(num_heads)}; they must divide the stages' channels, {widths}")
        names = [f"p{stage}" for stage in range(len(depths))]
        check_freeze_at(freeze_at, ("the patches", *names))
        rates = drop_path_rates(drop_path, sum(depths))
        count = len(wanted_stages(names, out_features))
        self._stages = len(depths)
        self.window = window
        self.patch_embed = PatchEmbed(embed_dim, norm=patch_norm)
        self.absolute_pos_embed: nn.Parameter | None = None
        if absolute_positions:
            grid = torch.zeros(1, embed_dim, absolute_positions, absolute_positions)
            self.absolute_pos_embed = nn.Parameter(nn.init.trunc_normal_(grid, std=STD))
        self.layers = nn.ModuleList()
        for stage in range(count):
            first = sum(depths[:stage])
            frozen = stage < freeze_at - 1
            blocks = [
                Block(
                    widths[stage],
                    num_heads[stage],
                    window,
                    shifted=number % 2 == 1,
                    mlp_ratio=mlp_ratio,
                    qkv_bias=qkv_bias,
                    rate=0.0 if frozen else rates[first + number],
                )
                for number in range(depths[stage])
            ]
            merging = PatchMerging(widths[stage]) if stage + 1 < count else None
            self.layers.append(Stage(blocks, window, merging, checkpointing=checkpointing))
        self._shapes = {name: Shape(widths[i], PATCH * 2**i) for i, name in enumerate(names) if name in out_features}
        for stage, name in enumerate(names):
            if name in out_features:
                self.add_module(f"norm{stage}", nn.LayerNorm(widths[stage]))
        init_transformer(self)
        if freeze_at:
            freeze(self.patch_embed)
            if self.absolute_pos_embed is not None:
                self.absolute_pos_embed.requires_grad_(False)
            for layer in self.layers[: freeze_at - 1]:
                freeze(layer)

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def divisor(self) -> int:
        return 1

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.patch_embed(images)
        if self.absolute_pos_embed is not None:
            x = x + F.interpolate(self.absolute_pos_embed, x.shape[1:3], mode="bicubic").permute(0, 2, 3, 1)
        index = relative_index(self.window, x.device)
        features = {}
        for stage, layer in enumerate(self.layers):
            assert isinstance(layer, Stage)
            x = layer(x, index)
            if f"p{stage}" in self._shapes:
                features[f"p{stage}"] = getattr(self, f"norm{stage}")(x).permute(0, 3, 1, 2)
            if layer.downsample is not None:
                x = layer.downsample(x)
        return features

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Norms of outputs begin as new ones; biases of relative positions are resized to the window."""
        own, count = self.state_dict(), len(self.layers)
        absent = (f"layers.{count - 1}.downsample.", *(f"layers.{i}." for i in range(count, self._stages)))
        fitted = {name: value for name, value in weights.items() if not name.startswith(absent)}
        for name, value in fitted.items():
            if name.endswith(".relative_position_bias_table") and name in own:
                fitted[name] = _resized_table(value, 2 * self.window - 1)
        return own_arrays(self, "^norm") | fitted

    def layer_prefixes(self) -> Sequence[Sequence[str]]:
        """The patches with their positions, then block by block; what leads to the next stage goes with the block
        before it, and norms of outputs come after the last (as in SimMIM's fine-tuning)."""
        layers = [["patch_embed"] if self.absolute_pos_embed is None else ["patch_embed", "absolute_pos_embed"]]
        for stage, layer in enumerate(self.layers):
            assert isinstance(layer, Stage)
            layers += [[f"layers.{stage}.blocks.{number}"] for number in range(len(layer.blocks))]
            if layer.downsample is not None:
                layers[-1].append(f"layers.{stage}.downsample")
        return layers

    def positions(self) -> Sequence[str]:
        last = ("relative_position_bias_table", "absolute_pos_embed")
        return [name for name, _ in self.named_parameters() if name.rpartition(".")[2] in last]


def _resized_table(table: Tensor, side: int) -> Tensor:
    """A table of biases (old * old, heads) for windows of another side -> (side * side, heads)."""
    old = round(table.shape[0] ** 0.5)
    if old == side:
        return table
    grid = table.T.reshape(1, -1, old, old)
    return F.interpolate(grid, (side, side), mode="bicubic").flatten(2)[0].T.contiguous()
