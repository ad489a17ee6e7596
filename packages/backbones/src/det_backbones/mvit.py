"""MViTv2 (Li et al., MViTv2: Improved Multiscale Vision Transformers for Classification and Detection, 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from det_backbones.arguments import check_choice, wanted_stages
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
from detkit.structures.shape import Shape

SCALES = ("scale2", "scale3", "scale4", "scale5")


@dataclass(frozen=True)
class BlockStyle:
    """What all blocks of an MViT share, see `MViT`."""

    mlp_ratio: float
    qkv_bias: bool
    residual_pooling: bool
    eps: float


class PoolingAttention(nn.Module):
    """Attention between maps that are pooled, each head by itself, with depthwise 3x3 convolutions.

    Args:
        in_channels, channels, heads: of the input, and of the output with its heads.
        stride, kv_stride: of the pooling of queries, and of keys and values.
        window: side of the windows in positions of the input, or 0 for attention everywhere.
        size: side of the maps of pretraining, for which the table of relative positions has an entry each.
        style: what all blocks share.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        heads: int,
        *,
        stride: int,
        kv_stride: int,
        window: int,
        size: int,
        style: BlockStyle,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.query_window, self.key_window = window // stride, window // kv_stride
        self.residual_pooling = style.residual_pooling
        self.qkv = nn.Linear(in_channels, 3 * channels, bias=style.qkv_bias)
        self.proj = nn.Linear(channels, channels)
        width = channels // heads
        self.pool_q, self.pool_k, self.pool_v = (
            nn.Conv2d(width, width, 3, step, padding=1, groups=width, bias=False)
            for step in (stride, kv_stride, kv_stride)
        )
        self.norm_q, self.norm_k, self.norm_v = (nn.LayerNorm(width, eps=style.eps) for _ in range(3))
        distances = 2 * max(size // stride, size // kv_stride) - 1
        self.rel_pos_h = nn.Parameter(torch.zeros(distances, width))
        self.rel_pos_w = nn.Parameter(torch.zeros(distances, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in channels) -> (B, H / stride, W / stride, channels), rounded up."""
        batch, height, width, _ = x.shape
        qkv = self.qkv(x).view(batch, height, width, 3, self.heads, -1).permute(3, 0, 4, 5, 1, 2)
        query, key, value = qkv.flatten(1, 2)  # (B * heads, C, H, W) each
        query = self.norm_q(self.pool_q(query).permute(0, 2, 3, 1))
        key = self.norm_k(self.pool_k(key).permute(0, 2, 3, 1))
        value = self.norm_v(self.pool_v(value).permute(0, 2, 3, 1))
        attended = self._attend(query, key, value)
        if self.residual_pooling:
            attended = attended + query
        attended = attended.unflatten(0, (batch, self.heads)).permute(0, 2, 3, 1, 4).flatten(3)
        found: Tensor = self.proj(attended)
        return found

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of pooled maps (B * heads, H, W, C). The zeros that fill up windows at the border are attended to
        like all else."""
        height, width = query.shape[1:3]
        if self.query_window:
            query = window_partition(query, self.query_window)
            key, value = window_partition(key, self.key_window), window_partition(value, self.key_window)
        tables, key_size = (self.rel_pos_h, self.rel_pos_w), (key.shape[1], key.shape[2])
        q, k, v = (each.flatten(1, 2)[:, None] for each in (query, key, value))
        x = attention(q, k, v, tables, (query.shape[1], query.shape[2]), key_size).reshape(query.shape)
        return window_merge(x, height, width) if self.query_window else x


class Block(nn.Module):
    """Pooling attention, then two linear layers; each with a norm before and a shortcut.

    Args:
        in_channels, attention_channels, out_channels: before, between and after the two.
        heads, stride, kv_stride, window, size: see `PoolingAttention`.
        dropped: probability with which an image leaves out a branch in training.
        style: what all blocks share.
    """

    def __init__(
        self,
        in_channels: int,
        attention_channels: int,
        out_channels: int,
        heads: int,
        *,
        stride: int,
        kv_stride: int,
        window: int,
        size: int,
        dropped: float,
        style: BlockStyle,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.norm1 = nn.LayerNorm(in_channels, eps=style.eps)
        self.attn = PoolingAttention(
            in_channels,
            attention_channels,
            heads,
            stride=stride,
            kv_stride=kv_stride,
            window=window,
            size=size,
            style=style,
        )
        self.drop_path = drop_path(dropped)
        self.norm2 = nn.LayerNorm(attention_channels, eps=style.eps)
        self.mlp = MLP(attention_channels, int(attention_channels * style.mlp_ratio), out_channels)
        self.widens_in_attention = in_channels != attention_channels
        self.widens_in_mlp = attention_channels != out_channels
        if self.widens_in_attention or self.widens_in_mlp:
            self.proj = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in channels) -> (B, H / stride, W / stride, out channels), rounded up."""
        normed = self.norm1(x)
        shortcut = self.proj(normed) if self.widens_in_attention else x
        if self.stride > 1:
            pooled = F.max_pool2d(shortcut.permute(0, 3, 1, 2), self.stride + 1, self.stride, self.stride // 2)
            shortcut = pooled.permute(0, 2, 3, 1)
        x = shortcut + self.drop_path(self.attn(normed))
        normed = self.norm2(x)
        shortcut = self.proj(normed) if self.widens_in_mlp else x
        found: Tensor = shortcut + self.drop_path(self.mlp(normed))
        return found


class PatchEmbedding(nn.Module):
    """Overlapping patches: a 7x7 convolution of stride 4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 7, stride=4, padding=3)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H / 4, W / 4, channels), rounded up."""
        patches: Tensor = self.proj(images)
        return patches.permute(0, 2, 3, 1)


class MViT(Backbone):
    """MViTv2 for detection: attention in windows, but for the last block of each stage after the first, which sees
    everything. Published with ImageNet-1k or 21k weights in five sizes:

    | | embed_dim | depths | num_heads |
    |---|---|---|---|
    | T | 96 | 1, 2, 5, 2 | 1 |
    | S | 96 | 1, 2, 11, 2 | 1 |
    | B | 96 | 2, 3, 16, 3 | 1 |
    | L | 144 | 2, 6, 36, 4 | 2 |
    | H | 192 | 4, 8, 60, 8 | 3 |

    Args:
        embed_dim: channels of the first stage; each stage after it has twice those of the one before.
        depths: blocks of each of the four stages.
        num_heads: of attention in the first stage; as many channels each in all stages.
        kv_stride: of the pooling of keys and values in the first stage, 1, 2, 4 or 8; half as much in each stage after
            it, but twice that in the last blocks of the second and third stages, which see everything.
        window: side of the windows in the first stage, in patches; half as much in each stage after it. A multiple of
            8; 0 for attention everywhere.
        image_size: side of the images of pretraining, in pixels: the tables of relative positions have an entry for
            each difference there. For other sizes they are resized as they are used.
        mlp_ratio: hidden channels of the two linear layers, per channel.
        qkv_bias: whether queries, keys and values have a bias.
        residual_pooling: whether the pooled queries are added to what attention gives.
        expand: where channels double: "attention", in that of a stage's first block, or "mlp", in the linear layers of
            the last block of the stage before, as in the published L for ImageNet-1k.
        drop_path: probability with which an image leaves out a branch of the last block in training, from 0 in the
            first rising evenly. 0.2 for T and S, 0.4, 0.5 and 0.6 for B, L and H in Detectron2.
        norm_eps: added to variances in layer norms.
        checkpointing: whether activations are computed again in the backward pass, block by block, rather than kept:
            less memory, more time.
        out_features: the stages to return, of scale2, scale3, scale4, scale5, each through a layer norm. Stages after
            the last are not built.

    Raises:
        ValueError: an argument out of range.

    `forward` takes images (B, 3, H, W) of any size, and returns (B, C, H / stride, W / stride), rounded up, for each
    of `out_features`, of stride 4, 8, 16, 32.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 96,
        depths: Sequence[int] = (1, 2, 5, 2),
        num_heads: int = 1,
        kv_stride: int = 4,
        window: int = 56,
        image_size: int = 224,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        residual_pooling: bool = True,
        expand: Literal["attention", "mlp"] = "attention",
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
        checkpointing: bool = False,
        out_features: Sequence[str] = SCALES,
    ) -> None:
        super().__init__()
        _check(embed_dim, depths, num_heads, window, image_size)
        check_choice("kv_stride", kv_stride, (1, 2, 4, 8))
        check_choice("expand", expand, ("attention", "mlp"))
        style = BlockStyle(mlp_ratio, qkv_bias, residual_pooling, norm_eps)
        self.checkpointing = checkpointing
        self.patch_embed = PatchEmbedding(embed_dim)
        self.blocks = nn.ModuleList()
        self.norms = nn.ModuleDict()
        self._shapes: dict[str, Shape] = {}
        self._ends: dict[int, str] = {}
        rates = drop_path_rates(drop_path, sum(depths))
        channels = embed_dim
        for stage, name in enumerate(wanted_stages(SCALES, out_features)):
            own = embed_dim << stage
            for number in range(depths[stage]):
                first, last = stage > 0 and number == 0, number == depths[stage] - 1
                before = stage - first  # the stage in whose positions the block's input is
                step = max(kv_stride >> stage, 1)
                wider = own << (expand == "mlp" and last and stage < 3)
                block = Block(
                    channels,
                    own,
                    wider,
                    num_heads << stage,
                    stride=2 if first else 1,
                    kv_stride=2 * step if last and stage in (1, 2) else step,
                    window=0 if last and stage > 0 else window >> before,
                    size=image_size // 4 >> before,
                    dropped=rates[len(self.blocks)],
                    style=style,
                )
                self.blocks.append(block)
                channels = wider
            self._ends[len(self.blocks) - 1] = name
            if name in out_features:
                self.norms[name] = nn.LayerNorm(channels, eps=norm_eps)
                self._shapes[name] = Shape(channels, 4 << stage)
        init_transformer(self)

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def divisor(self) -> int:
        return 1

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.patch_embed(images)
        features = {}
        for number, block in enumerate(self.blocks):
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
            name = self._ends.get(number)
            if name in self._shapes:
                features[name] = self.norms[name](x).permute(0, 3, 1, 2)
        return features

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The norms of the stages, which classifiers do not have, stay as they are."""
        whole = SCALES[-1] in self._shapes
        built = tuple(f"blocks.{number}." for number in range(len(self.blocks)))
        return own_arrays(self, r"^norms\.") | {
            name: value
            for name, value in weights.items()
            if whole or not name.startswith("blocks.") or name.startswith(built)
        }

    def layer_prefixes(self) -> Sequence[Sequence[str]]:
        return [["patch_embed"], *([f"blocks.{number}"] for number in range(len(self.blocks)))]

    def positions(self) -> Sequence[str]:
        return [name for name, _ in self.named_parameters() if name.endswith((".rel_pos_h", ".rel_pos_w"))]


def _check(embed_dim: int, depths: Sequence[int], num_heads: int, window: int, image_size: int) -> None:
    if len(depths) != len(SCALES) or min(depths) < 1:
        raise ValueError(f"depths is {list(depths)}; it must be four numbers of blocks, each at least 1")
    if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
        raise ValueError(f"embed_dim is {embed_dim}; it must be a multiple of num_heads, which is {num_heads}")
    if window < 0 or window % 8:
        raise ValueError(f"window is {window}; it must be a multiple of 8, or 0 for attention everywhere")
    if image_size < 32:
        raise ValueError(f"image_size is {image_size}; it must be at least 32")
