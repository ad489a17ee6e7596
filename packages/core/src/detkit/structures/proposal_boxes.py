"""Boxes that were proposed beforehand: they move with the image through torchvision.transforms.v2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import TVTensor


class ProposalBoxes(TVTensor):
    """The proposals (P, 4) float32 xyxy in pixels for one image.

    They are no `tv_tensors.BoundingBoxes`, since transforms that choose among the boxes of instances would take them
    for such. They may lie outside the image until they are `cut`.

    Args:
        boxes: (P, 4), or anything that becomes such a tensor.
        canvas_size: height and width of the image in pixels.
    """

    canvas_size: tuple[int, int]

    def __new__(cls, boxes: Any, *, canvas_size: tuple[int, int]) -> ProposalBoxes:
        return _describe(cls._to_tensor(boxes, dtype=torch.float32).reshape(-1, 4), canvas_size)

    @classmethod
    def _wrap_output(cls, output: Any, args: Any = (), kwargs: Any = None) -> Any:
        like = next((value for value in args if isinstance(value, ProposalBoxes)), None)
        if isinstance(output, Tensor) and like is not None:  # clone, to, detach
            return _describe(output.as_subclass(Tensor), like.canvas_size)
        return output

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"ProposalBoxes({tuple(self.shape)}, canvas_size={self.canvas_size})"

    def cut(self, canvas_size: tuple[int, int]) -> ProposalBoxes:
        """The part of each box inside a canvas (height, width); it may be empty."""
        boxes = self.as_subclass(Tensor)
        limit = boxes.new_tensor((canvas_size[1], canvas_size[0]) * 2)
        return _describe(boxes.clamp(min=0).minimum(limit), canvas_size)


def _describe(tensor: Tensor, canvas_size: tuple[int, int]) -> ProposalBoxes:
    boxes = tensor.as_subclass(ProposalBoxes)
    boxes.canvas_size = canvas_size
    return boxes


def _as_boxes(functional: Callable[..., Any]) -> Callable[..., ProposalBoxes]:
    """A kernel that moves proposals as torchvision moves boxes."""

    def kernel(boxes: ProposalBoxes, *args: Any, **kwargs: Any) -> ProposalBoxes:
        plain = tv_tensors.BoundingBoxes(boxes.as_subclass(Tensor), format="XYXY", canvas_size=boxes.canvas_size)
        moved = functional(plain, *args, **kwargs)
        return _describe(moved.as_subclass(Tensor), tuple(moved.canvas_size))

    return kernel


for _functional in (
    F.horizontal_flip,
    F.vertical_flip,
    F.resize,
    F.crop,
    F.center_crop,
    F.resized_crop,
    F.pad,
    F.affine,
    F.rotate,
    F.perspective,
    F.elastic,
):
    F.register_kernel(_functional, ProposalBoxes)(_as_boxes(_functional))
