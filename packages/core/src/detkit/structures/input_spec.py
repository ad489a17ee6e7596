"""How an image must be prepared for a model: part of the model, its checkpoint and every export of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


def padded_size(height: int, width: int, divisor: int, square: int) -> tuple[int, int]:
    """The smallest size (height, width) from this one on that is a multiple of `divisor`, and where `square` is not 0
    a square of at least that side."""
    if square:
        height = width = max(height, width, square)
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


@dataclass(frozen=True)
class InputSpec:
    """The input that a model was trained with.

    Args:
        channel_order: of the tensor that enters the backbone. Images are RGB everywhere outside the model.
        mean: per channel in `channel_order`, in units of 0 to 255.
        std: likewise.
        min_size: shortest edge in pixels after resizing at inference; 0 keeps the image's own size.
        max_size: longest edge in pixels after resizing at inference.
        antialias: whether what is made smaller is smoothed first, as Pillow does; OpenCV and torchvision's detectors do
            not, and models that were trained with them want the same.
        divisor: images are padded at the right and the bottom to a multiple of this many pixels.
        square: images are padded at the right and the bottom to squares of at least this side, in pixels; 0 lets them
            be rectangles.
    """

    channel_order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    min_size: int = 800
    max_size: int = 1333
    divisor: int = 32
    antialias: bool = True
    square: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.channel_order not in ("rgb", "bgr"):
            raise ValueError(f"channel_order is {self.channel_order!r}; it must be 'rgb' or 'bgr'")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std}: three numbers each are needed, std above 0")
        if self.min_size < 0 or self.max_size < max(1, self.min_size) or self.divisor < 1:
            raise ValueError(
                f"min_size {self.min_size}, max_size {self.max_size}, divisor {self.divisor}: "
                "0 <= min_size <= max_size and divisor >= 1 are needed"
            )
        if self.square < 0:
            raise ValueError(f"square is {self.square}; it must be a side in pixels, or 0 for rectangles")

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The size (height, width) that an image of this size is resized to: the shortest edge becomes `min_size`
        unless the longest would exceed `max_size`; rounded half up."""
        if self.min_size == 0:
            return height, width
        scale = self.min_size / min(height, width)
        new_height, new_width = height * scale, width * scale
        if max(new_height, new_width) > self.max_size:
            shrink = self.max_size / max(new_height, new_width)
            new_height, new_width = new_height * shrink, new_width * shrink
        return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and YAML; `from_dict` reads them back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputSpec:
        return cls(**dict(data))
