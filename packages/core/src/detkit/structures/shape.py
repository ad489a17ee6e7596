"""The shape of one feature map, known before any tensor exists."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """Channels and stride (input pixels per feature pixel) of one feature map."""

    channels: int
    stride: int
