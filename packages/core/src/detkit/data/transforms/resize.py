"""Changing the size of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from detkit.data.transforms.crop import FixedSizeCrop
from detkit.data.transforms.draws import check_grey, integer, number, one_of
from detkit.data.transforms.moving import resized
from detkit.interfaces import Transform
from detkit.structures.input_spec import InputSpec
from detkit.structures.sample import Sample


class ResizeShortestEdge(Transform):
    """Resize so that the shortest edge has a size drawn at random, unless the longest would exceed `max_size`.

    Args:
        sizes: of the shortest edge in pixels.
        max_size: of the longest edge in pixels.
        draw: "choice" draws one of `sizes`, "range" any integer from the smallest to the largest of them.
    """

    def __init__(self, sizes: Sequence[int], max_size: int = 1333, draw: Literal["choice", "range"] = "choice") -> None:
        if not sizes or min(sizes) < 1 or max_size < max(sizes):
            raise ValueError(f"sizes {list(sizes)}, max_size {max_size}: sizes from 1 to max_size are needed")
        if draw not in ("choice", "range"):
            raise ValueError(f"draw is {draw!r}; it must be 'choice' or 'range'")
        self.sizes = tuple(sizes)
        self.max_size = max_size
        self.draw = draw

    def __call__(self, sample: Sample) -> Sample:
        size = integer(min(self.sizes), max(self.sizes)) if self.draw == "range" else one_of(self.sizes)
        rule = InputSpec(min_size=size, max_size=self.max_size)  # the rule of inference, so that both round alike
        return resized(sample, *rule.resized(*sample.image.shape[-2:]))


class RandomResize(Transform):
    """Resize to a shape drawn at random; the aspect ratio changes with it.

    Args:
        shapes: heights and widths in pixels; one of them makes all images alike.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        if not shapes or min(map(min, shapes)) < 1:
            raise ValueError(f"shapes {[list(shape) for shape in shapes]}: heights and widths in pixels are needed")
        self.shapes = tuple(shapes)

    def __call__(self, sample: Sample) -> Sample:
        return resized(sample, *one_of(self.shapes))


class ResizeScale(Transform):
    """Resize, the aspect ratio kept, to fit a target whose size is multiplied by a random scale: the first half of
    large-scale jittering (Ghiasi et al. 2021); `fixed_size_crop` is the other.

    Args:
        min_scale: the smallest scale.
        max_scale: the largest scale.
        target_height: of the target, in pixels.
        target_width: of the target, in pixels.
    """

    def __init__(self, min_scale: float, max_scale: float, target_height: int, target_width: int) -> None:
        if not 0 < min_scale <= max_scale or min(target_height, target_width) < 1:
            raise ValueError(
                f"min_scale {min_scale}, max_scale {max_scale}, target {target_height} x {target_width}: "
                "0 < min_scale <= max_scale and pixels are needed"
            )
        self.min_scale = min_scale
        self.max_scale = max_scale
        self.target_height = target_height
        self.target_width = target_width

    def __call__(self, sample: Sample) -> Sample:
        height, width = sample.image.shape[-2:]
        ratio = number(self.min_scale, self.max_scale) * min(self.target_height / height, self.target_width / width)
        return resized(sample, max(1, round(height * ratio)), max(1, round(width * ratio)))


class LargeScaleJitter(Transform):
    """Resize by a random scale, then cut or pad to a square: large-scale jittering of Ghiasi et al. 2021,
    https://arxiv.org/abs/2012.07177.

    The picture is resized, its aspect ratio kept, to fit a square of `size` times the scale; of what is larger than
    `size` a random part is cut out, and what is smaller is padded at the right and the bottom.

    Args:
        size: of the square that comes out, in pixels.
        min_scale: the smallest scale.
        max_scale: the largest scale.
        fill: grey value of the padding; null leaves padding to the batch, for models whose input is padded to squares.
    """

    def __init__(
        self, size: int = 1024, min_scale: float = 0.1, max_scale: float = 2.0, fill: int | None = 128
    ) -> None:
        check_grey("fill", fill or 0)
        self.resize = ResizeScale(min_scale, max_scale, size, size)
        self.crop = FixedSizeCrop((size, size), pad=fill is not None, pad_value=fill or 0)

    def __call__(self, sample: Sample) -> Sample:
        return self.crop(self.resize(sample))
