"""The arrays of a vision transformer in other systems' checkpoints, in the shapes that detkit's have."""

from __future__ import annotations

import math

from torch import Tensor


def position_grid(positions: Tensor) -> Tensor:
    """Embeddings (1, N, C) of the positions of a square map, row by row -> (1, side, side, C), without that of a class
    token, which comes first where there is one.

    Raises:
        ValueError: N is no square, nor one more.
    """
    count = positions.shape[1]
    side = math.isqrt(count)
    if count - side**2 not in (0, 1):
        raise ValueError(f"the embeddings of {count} positions are not of a square map, with or without a class token")
    return positions[:, count - side**2 :].unflatten(1, (side, side))
