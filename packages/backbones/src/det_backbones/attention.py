"""Parts that vision transformers share: windows, decomposed relative positions, the layers after attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def to_windows(x: Tensor, side: int) -> Tensor:
    """(B, H, W, C) -> (B * windows, side, side, C), filled up with zeros at the bottom and the right."""
    batch, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    x = x.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return x.transpose(2, 3).reshape(-1, side, side, channels)


def from_windows(windows: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `to_windows`, for a map of this height and width: (B, H, W, C)."""
    height, width = size
    side, channels = windows.shape[-2:]
    x = windows.view(-1, -(-height // side), -(-width // side), side, side, channels)
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]


def relative_positions(table: Tensor, queries: int, keys: int) -> Tensor:
    """The entries (queries, keys, C) of a table (L, C) for pairs of positions along a side.

    The table goes from the smallest to the largest difference, and is resized to as many as there are. Where there are
    fewer keys than queries, or the other way round, the fewer lie as far apart as the others' ends.
    """
    length = 2 * max(queries, keys) - 1
    if len(table) != length:
        table = F.interpolate(table.T[None], size=length, mode="linear")[0].T
    query_step, key_step = max(keys / queries, 1.0), max(queries / keys, 1.0)
    query_at = torch.arange(queries, device=table.device)[:, None] * query_step
    key_at = torch.arange(keys, device=table.device) * key_step
    difference = (query_at - key_at) + (keys - 1) * key_step  # rounded and cut off as Detectron2 does
    return table[difference.long()]


def relative_bias(queries: Tensor, rows: Tensor, columns: Tensor, key_size: tuple[int, int]) -> Tensor:
    """What decomposed relative positions add to the logits of attention (MViTv2, section 4.1).

    Args:
        queries: (N, H, W, C), not scaled.
        rows, columns: tables (L, C) of relative positions along the height and the width.
        key_size: height and width of the map of keys.

    Returns:
        (N, H * W, key height * key width), the sum of a term for the height and one for the width.
    """
    height, width = queries.shape[1:3]
    vertical = torch.einsum("nhwc,hkc->nhwk", queries, relative_positions(rows, height, key_size[0]))
    horizontal = torch.einsum("nhwc,wkc->nhwk", queries, relative_positions(columns, width, key_size[1]))
    return (vertical[..., :, None] + horizontal[..., None, :]).flatten(3).flatten(1, 2)


class MLP(nn.Module):
    """Two linear layers with a GELU between them, for the last dimension.

    Args:
        in_channels, hidden, out_channels: of the input, between the layers, and of the output.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels, hidden)
        self.fc2 = nn.Linear(hidden, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return found
