"""What transformers on maps share: windows, attention with relative positions (Li et al., MViTv2, 2022), the rest of a
block. Maps of tokens are (B, H, W, C) here, channels last."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth


def window_partition(x: Tensor, size: int) -> Tensor:
    """A map (B, H, W, C) as windows (B * N, size, size, C), row by row; zeros at the right and the bottom fill up the
    last ones."""
    batch, height, width, channels = x.shape
    if height % size or width % size:
        x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
    x = x.view(batch, x.shape[1] // size, size, x.shape[2] // size, size, channels)
    return x.transpose(2, 3).reshape(-1, size, size, channels)


def window_merge(windows: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `window_partition`: windows (B * N, size, size, C) -> the map (B, height, width, C)."""
    size, channels = windows.shape[2:]
    rows, columns = -(-height // size), -(-width // size)
    x = windows.reshape(-1, rows, columns, size, size, channels).transpose(2, 3)
    return x.reshape(-1, rows * size, columns * size, channels)[:, :height, :width]


def relative_positions(table: Tensor, queries: int, keys: int) -> Tensor:
    """The embedding of the distance from each key to each query along one axis, (queries, keys, C).

    Args:
        table: (L, C), embeddings of the distances in the order from the furthest behind to the furthest ahead; it is
            resized linearly where L is not the number of distances, 2 * max(queries, keys) - 1.
        queries, keys: how many there are; where they differ the fewer are spread over the range of the others.
    """
    distances = 2 * max(queries, keys) - 1
    if len(table) != distances:
        table = F.interpolate(table.T[None], distances, mode="linear")[0].T
    query_step, key_step = max(keys / queries, 1.0), max(queries / keys, 1.0)
    query = torch.arange(queries, device=table.device)[:, None] * query_step
    key = torch.arange(keys, device=table.device)[None, :] * key_step
    return table[((query - key) + (keys - 1) * key_step).long()]


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tables: tuple[Tensor, Tensor] | None = None,
    query_size: tuple[int, int] = (0, 0),
    key_size: tuple[int, int] = (0, 0),
) -> Tensor:
    """Softmax attention of query (B, heads, Q, C) to key and value (B, heads, K, C): (B, heads, Q, C).

    With `tables` of relative positions along the height and the width, each (L, C), Q and K are maps of `query_size`
    and `key_size` (height, width), and query q adds q · (height embedding + width embedding) to the logit of each key.
    Memory stays linear in Q and K even so: the two sums are further channels of the query, one for each row and column
    of keys, and a key has ones in the channels of its own, so that no (Q, K) matrix of positions is made.
    """
    if tables is None:
        return F.scaled_dot_product_attention(query, key, value)
    rows, columns = key_size
    channels = query.shape[-1]
    by_height, by_width = (
        relative_positions(table, queries, keys).to(query.dtype)
        for table, queries, keys in zip(tables, query_size, key_size, strict=True)
    )
    grid = query.unflatten(2, query_size)
    along_height = torch.einsum("bnhwc,hkc->bnhwk", grid, by_height).flatten(2, 3)
    along_width = torch.einsum("bnhwc,wkc->bnhwk", grid, by_width).flatten(2, 3)
    query = torch.cat([query * channels**-0.5, along_height, along_width], dim=-1)
    own_row = torch.eye(rows, dtype=key.dtype, device=key.device).repeat_interleave(columns, dim=0)
    own_column = torch.eye(columns, dtype=key.dtype, device=key.device).repeat(rows, 1)
    own = torch.cat([own_row, own_column], dim=-1).expand(*key.shape[:2], -1, -1)
    key = torch.cat([key, own], dim=-1)
    value = F.pad(value, (0, rows + columns))  # fused kernels want all three equally wide
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., :channels]


def drop_path(rate: float) -> nn.Module:
    """Stochastic depth (Huang et al., 2016): in training, a residual branch is left out of a sample this often."""
    return StochasticDepth(rate, "row") if rate else nn.Identity()


def drop_path_rates(last: float, blocks: int) -> list[float]:
    """The rate of each block for `drop_path`: from 0 in the first it rises evenly to the last's.

    Raises:
        ValueError: the last's is no probability below 1.
    """
    if not 0 <= last < 1:
        raise ValueError(f"drop_path is {last}; a probability from 0 to below 1 is needed")
    rates: list[float] = torch.linspace(0, last, blocks, device="cpu").tolist()
    return rates


class MLP(nn.Module):
    """Two linear layers with a GELU between them, on the last dimension."""

    def __init__(self, channels: int, hidden: int, out_channels: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, out_channels or channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


def init_transformer(module: nn.Module) -> None:
    """Linear layers begin from truncated normal weights of standard deviation 0.02 and zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
