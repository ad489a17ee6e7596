"""A class for every pixel: it moves with the image through torchvision.transforms.v2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import TVTensor


class SemanticMap(TVTensor):
    """Labels of pixels (H, W) uint8, 255 where there is none.

    It is no `tv_tensors.Mask`, for two reasons: what a transform adds around an image has no label, where masks get
    zeros, which is a class; and pixels are looked up at their centres when the size changes, where masks shift by up to
    half a pixel.

    Args:
        labels: (H, W), or anything that becomes such a tensor.
    """

    def __new__(cls, labels: Any) -> SemanticMap:
        return cls._to_tensor(labels, dtype=torch.uint8).as_subclass(cls)


def _as_mask(functional: Callable[..., Any]) -> Callable[..., SemanticMap]:
    """A kernel that moves labels as torchvision moves masks, but for what it fills in."""

    def kernel(labels: SemanticMap, *args: Any, **kwargs: Any) -> SemanticMap:
        if "fill" in kwargs:  # is meant for the image
            kwargs["fill"] = 0
        # One more than each label, so that 255 wraps around to the 0 that masks are filled with.
        moved = functional(tv_tensors.Mask(labels.as_subclass(Tensor) + 1), *args, **kwargs)
        return SemanticMap(moved.as_subclass(Tensor) - 1)

    return kernel


def _resize(labels: SemanticMap, size: list[int] | None, *args: Any, **kwargs: Any) -> SemanticMap:
    exact = InterpolationMode.NEAREST_EXACT
    resized = F.resize(labels.as_subclass(Tensor)[None], size, exact, max_size=kwargs.get("max_size"), antialias=False)
    return SemanticMap(resized[0])


def _resized_crop(
    labels: SemanticMap, top: int, left: int, height: int, width: int, size: list[int], **kwargs: Any
) -> SemanticMap:
    return _resize(F.crop(labels, top, left, height, width), size)


F.register_kernel(F.resize, SemanticMap)(_resize)
F.register_kernel(F.resized_crop, SemanticMap)(_resized_crop)
for _functional in (
    F.horizontal_flip,
    F.vertical_flip,
    F.crop,
    F.center_crop,
    F.pad,
    F.affine,
    F.rotate,
    F.perspective,
    F.elastic,
):
    F.register_kernel(_functional, SemanticMap)(_as_mask(_functional))
