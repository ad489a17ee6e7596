"""Non-local block (Wang et al., Non-local Neural Networks, 2018)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from detkit.layers import Conv, init_normal


class NonLocal(nn.Module):
    """Adds to each position what it attends to among all others: softmax(theta(x) phi(x)^T) g(x), the paper's embedded
    Gaussian, which does not scale the products as later attention does. phi and g see the map subsampled by max
    pooling. In the beginning it adds nothing, so that it can be put into a trained network.

    Args:
        channels: of the map (B, channels, H, W), which keeps its shape. The embeddings have half as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.theta, self.phi, self.g = (Conv(channels, inner, 1) for _ in range(3))
        self.out = Conv(inner, channels, 1)
        for conv in (self.theta, self.phi, self.g):
            init_normal(conv, 0.01)
        init_normal(self.out, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        coarse = F.max_pool2d(x, kernel_size=2, stride=2, ceil_mode=True)
        queries, keys, values = (
            each.flatten(2).transpose(1, 2) for each in (self.theta(x), self.phi(coarse), self.g(coarse))
        )  # (B, positions, inner)
        attended = F.scaled_dot_product_attention(queries, keys, values, scale=1.0)
        return x + self.out(attended.transpose(1, 2).unflatten(2, x.shape[2:]))
