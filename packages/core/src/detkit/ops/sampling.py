"""Random choices in a model that depend on given seeds alone, not on the device or on how a batch is split."""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_ABOVE_ALL_KEYS = 1 << 33


def random_keys(seeds: Tensor, count: int, stream: int) -> Tensor:
    """Pseudo-random integers (B, count) in [0, 2**32), a function of `seeds` (B,), the position and `stream` (so that
    two uses of one seed differ). The mixing is MurmurHash3's finaliser (Appleby, 2011)."""
    position = torch.arange(count, device=seeds.device, dtype=torch.int64)
    start = ((seeds ^ (seeds >> 31)) + stream * 0x9E3779B1) & _MASK
    x = (_mix(start)[:, None] + position[None] * 0x9E3779B1) & _MASK
    return _mix(x)


def _mix(x: Tensor) -> Tensor:
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _MASK
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _MASK
    return x ^ (x >> 16)


@torch.no_grad()
def sample_balanced(
    labels: Tensor, seeds: Tensor, *, count: int, positive_fraction: float, stream: int
) -> tuple[Tensor, Tensor, int]:
    """Choose up to `count` candidates of each image at random, at most `positive_fraction` of them foreground.

    Args:
        labels: (B, N), above 0 foreground, 0 background, below 0 never chosen.
        seeds: (B,) int64.

    Returns:
        index (B, S) of the chosen, foreground first; valid (B, S); and P, the number of leading columns that can hold
        foreground. S is `count`, or N where there are fewer.
    """
    candidates = labels.shape[1]
    positives = min(int(count * positive_fraction), candidates)
    keys = random_keys(seeds, candidates, stream)
    foreground, background = labels > 0, labels == 0
    chosen = torch.where(foreground, keys, -1).topk(positives, dim=1)
    order = torch.where(background, keys, -1)
    order = order.scatter(
        1,
        chosen.indices,
        torch.where(chosen.values >= 0, chosen.values + _ABOVE_ALL_KEYS, order.gather(1, chosen.indices)),
    )
    picked = order.topk(min(count, candidates), dim=1)
    return picked.indices, picked.values >= 0, positives
