"""Vision transformer (Dosovitskiy et al., 2021) as a backbone of detectors (Li et al., ViTDet, 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from det_backbones.attention import (
    MLP,
    attention,
    drop_path,
    drop_path_rates,
    init_transformer,
    window_merge,
    window_partition,
)
from det_backbones.fitting import own_arrays
from detkit.interfaces import Backbone
from detkit.layers import Conv, init_relu_conv
from detkit.structures.shape import Shape

FRESH = r"\.(?:rel_pos_[hw]|residual)\b"
"""Found in the names of arrays that published classifiers do not have."""


class Attention(nn.Module):
    """Multi-head attention of a map (B, H, W, C) to itself.

    Args:
        channels, heads, qkv_bias: of the layer.
        size: side of the maps for which there is an embedding of each relative position, other maps having them
            resized; 0 for attention without.
    """

    def __init__(self, channels: int, heads: int, *, qkv_bias: bool, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.relative = size > 0
        if self.relative:
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, channels // heads))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, channels // heads))

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        query, key, value = self.qkv(x).view(batch, -1, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        tables = (self.rel_pos_h, self.rel_pos_w) if self.relative else None
        x = attention(query, key, value, tables, (height, width), (height, width))
        x = self.proj(x.transpose(1, 2).reshape(batch, height, width, channels))
        return x


class ConvBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with layer norm, and a shortcut. It begins as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels // 2, 1, norm="ln")
        self.conv2 = Conv(channels // 2, channels // 2, 3, norm="ln")
        self.conv3 = Conv(channels // 2, channels, 1, norm="ln")
        for conv in (self.conv1, self.conv2, self.conv3):
            init_relu_conv(conv)
        assert isinstance(self.conv3.norm, nn.LayerNorm)
        nn.init.zeros_(self.conv3.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return x + y


class Block(nn.Module):
    """Attention and an MLP, each after a layer norm and with a shortcut, then a `ConvBlock` if `residual`.

    Args:
        channels, heads, mlp_ratio, qkv_bias: of the layers.
        window: side of the windows that attention stays in; 0 for the whole map.
        size: see `Attention`.
        dropped: how often each of the two branches is left out in training.
        norm_eps: of the layer norms.
        residual: whether there is a `ConvBlock`.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        mlp_ratio: float,
        qkv_bias: bool,
        window: int,
        size: int,
        dropped: float,
        norm_eps: float,
        residual: bool,
    ) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(channels, norm_eps)
        self.attn = Attention(channels, heads, qkv_bias=qkv_bias, size=size)
        self.norm2 = nn.LayerNorm(channels, norm_eps)
        self.mlp = MLP(channels, int(channels * mlp_ratio))
        self.drop_path = drop_path(dropped)
        self.residual = ConvBlock(channels) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        y = self.norm1(x)
        y = window_merge(self.attn(window_partition(y, self.window)), height, width) if self.window else self.attn(y)
        x = x + self.drop_path(y)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        if self.residual is not None:
            x = self.residual(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x


class PatchEmbedding(nn.Module):
    """Images (B, 3, H, W) -> a token for each patch, (B, H / side, W / side, C)."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, side, side)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.proj(images)
        return x.permute(0, 2, 3, 1)


class ViT(Backbone):
    """A plain vision transformer without its class token, whose attention stays in windows but for a few blocks.
    Published with MAE's weights (He et al., 2022), trained on ImageNet-1k without labels, in three sizes:

    | | embed_dim | depth | num_heads | drop path |
    |---|---|---|---|---|
    | ViT-B | 768 | 12 | 12 | 0.1 |
    | ViT-L | 1024 | 24 | 16 | 0.4 |
    | ViT-H | 1280 | 32 | 16 | 0.5 |

    Args:
        embed_dim: channels of every token.
        depth: number of blocks.
        num_heads: of the attention; a divisor of `embed_dim`.
        patch: side of the patches, each a token, in pixels. 16 in the paper, also for ViT-H, whose weights are of 14.
        mlp_ratio: hidden channels of an MLP, in units of `embed_dim`.
        qkv_bias: whether queries, keys and values have a bias.
        window: side of the windows, in patches; 0 for attention everywhere in all blocks. Zeros fill up the last ones.
        global_blocks: the blocks with attention everywhere, from 0; by default the last of each quarter, as in the
            paper: 2, 5, 8 and 11 of ViT-B.
        residual_blocks: the blocks after which there are convolutions too, for models that mix windows by these.
        absolute_positions: whether each patch's position is added to its token.
        relative_positions: whether attention adds those of query and key, along each axis.
        image_size: side of the images, in pixels, for which blocks with attention everywhere have an embedding of each
            relative position; they are resized for others.
        pretrain_size: side of the images of pretraining, in pixels, whose patches have an absolute position each; they
            are resized for others.
        drop_path: how often the last block's branches are left out of a sample in training; from 0 in the first block
            on it rises evenly.
        norm_eps: of the layer norms.
        checkpointing: whether activations within blocks are computed again for gradients, instead of kept: less memory,
            a third more time.

    Raises:
        ValueError: an argument out of range.

    `forward` takes images (B, 3, H, W) of any multiple of `patch`, and returns `last_feat` (B, embed_dim, H / patch,
    W / patch).
    """

    def __init__(
        self,
        *,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        patch: int = 16,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        window: int = 14,
        global_blocks: Sequence[int] | None = None,
        residual_blocks: Sequence[int] = (),
        absolute_positions: bool = True,
        relative_positions: bool = True,
        image_size: int = 1024,
        pretrain_size: int = 224,
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(
                f"embed_dim is {embed_dim} and num_heads {num_heads}; the heads must share the channels evenly"
            )
        for name, size in (("image_size", image_size), ("pretrain_size", pretrain_size)):
            if size < patch:
                raise ValueError(f"{name} is {size}; it must be at least the side of a patch, {patch}")
        if window == 0 and global_blocks is not None:
            raise ValueError("window is 0: attention is everywhere in all blocks; leave out global_blocks")
        for name, blocks in (("global_blocks", global_blocks or ()), ("residual_blocks", residual_blocks)):
            if any(not 0 <= number < depth for number in blocks):
                raise ValueError(f"{name} is {list(blocks)}; the {depth} blocks are 0 to {depth - 1}")
        if global_blocks is None:
            global_blocks = [depth * quarter // 4 - 1 for quarter in range(1, 5)]
        self.patch, self.checkpointing = patch, checkpointing
        self.patch_embed = PatchEmbedding(embed_dim, patch)
        side = pretrain_size // patch
        self.pos_embed = nn.Parameter(torch.empty(1, side, side, embed_dim)) if absolute_positions else None
        windows = [0 if number in global_blocks else window for number in range(depth)]
        rates = drop_path_rates(drop_path, depth)
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                window=own,
                size=(own or image_size // patch) if relative_positions else 0,
                dropped=rate,
                norm_eps=norm_eps,
                residual=number in residual_blocks,
            )
            for number, (own, rate) in enumerate(zip(windows, rates, strict=True))
        )
        self._shapes = {"last_feat": Shape(embed_dim, patch)}
        init_transformer(self)
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.patch_embed(images)
        if self.pos_embed is not None:
            x = x + _resized_positions(self.pos_embed, x.shape[1], x.shape[2])
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
        return {"last_feat": x.permute(0, 3, 1, 2)}

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What published weights lack begins from values of its own; patches and positions of another size are
        resized."""
        fitted = own_arrays(self, FRESH) | dict(weights)
        if self.pos_embed is None:
            fitted.pop("pos_embed", None)
        elif "pos_embed" in fitted:
            fitted["pos_embed"] = _resized_positions(fitted["pos_embed"], *self.pos_embed.shape[1:3])
        kernel = fitted.get("patch_embed.proj.weight")
        if kernel is not None and kernel.shape[2:] != (self.patch, self.patch):
            fitted["patch_embed.proj.weight"] = F.interpolate(kernel, (self.patch, self.patch), mode="bicubic")
        return fitted

    def layer_prefixes(self) -> Sequence[Sequence[str]]:
        """The embeddings, then each block, without convolutions after it, which no published weights have."""
        first = ["patch_embed"] if self.pos_embed is None else ["patch_embed", "pos_embed"]
        parts = ("norm1", "attn", "norm2", "mlp")
        return [first, *([f"blocks.{number}.{part}" for part in parts] for number in range(len(self.blocks)))]

    def positions(self) -> Sequence[str]:
        """The absolute ones; relative positions decay in ViTDet."""
        return () if self.pos_embed is None else ("pos_embed",)


def _resized_positions(positions: Tensor, height: int, width: int) -> Tensor:
    """Embeddings (1, H, W, C) for a map of this size, bicubically."""
    if positions.shape[1:3] == (height, width):
        return positions
    return F.interpolate(positions.permute(0, 3, 1, 2), (height, width), mode="bicubic").permute(0, 2, 3, 1)
