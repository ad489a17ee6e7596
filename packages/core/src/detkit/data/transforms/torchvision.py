"""Any other transform of torchvision.transforms.v2."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from detkit.data.targets import cut_to_canvas
from detkit.data.transforms.moving import unclamped
from detkit.interfaces import Transform
from detkit.structures.instance_points import InstancePoints
from detkit.structures.polygons import Polygons
from detkit.structures.proposal_boxes import ProposalBoxes
from detkit.structures.sample import Sample


class Torchvision(Transform):
    """A transform of `torchvision.transforms.v2` by its name there.

    Boxes of instances with outlines are taken from the outlines afterwards, since torchvision puts a box around the
    corners of the turned box, which is loose.

    Args:
        transform: name of the class, such as "RandomRotation".
        arguments: its arguments.
    """

    def __init__(self, transform: str, arguments: Mapping[str, Any] | None = None) -> None:
        cls = getattr(v2, transform, None)
        if not (isinstance(cls, type) and issubclass(cls, v2.Transform)):
            raise ValueError(f"torchvision.transforms.v2 has no transform {transform!r}")
        try:
            self.transform = cls(**(arguments or {}))
        except (TypeError, ValueError) as error:
            raise ValueError(f"torchvision's {transform}: {error}; it takes {inspect.signature(cls)}") from None

    def __call__(self, sample: Sample) -> Sample:
        sample = cut_to_canvas(sample)  # what is outside may come inside, where the image shows nothing of it
        name, size = type(self.transform).__name__, tuple(sample.image.shape[-2:])
        try:
            image, target = self.transform(sample.image, unclamped(sample.target))
        except (ArithmeticError, RuntimeError, TypeError) as error:  # of images or boxes that it cannot take
            raise ValueError(f"torchvision's {name} fails on an image of {size[1]} x {size[0]}: {error}") from error
        if not (isinstance(image, tv_tensors.Image) and image.dtype == torch.uint8 and image.shape[0] == 3):
            raise ValueError(f"torchvision's {name} does not leave the image in three colours of whole numbers (uint8)")
        # It rounds the canvas of turned places otherwise than the size of turned images.
        target = {key: _on_canvas(value, tuple(image.shape[-2:])) for key, value in target.items()}
        before, after = sample.target["boxes"], target["boxes"]
        if after.format != before.format or len(after) != len(before):
            raise ValueError(
                f"torchvision's {name} writes boxes otherwise or leaves some out, which nothing else follows; "
                "keep_visible leaves out instances with all that is known of them"
            )
        if "polygons" in target and after.shape[1] == 4 and not torch.equal(before, after):
            outlined = target["polygons"].present
            boxes = torch.where(outlined[:, None], target["polygons"].boxes(), after.as_subclass(Tensor))
            target["boxes"] = tv_tensors.wrap(boxes, like=after)
        return replace(sample, image=image, target=target)


def _on_canvas(value: Any, size: tuple[int, int]) -> Any:
    if isinstance(value, tv_tensors.BoundingBoxes):
        return tv_tensors.wrap(value.as_subclass(Tensor), like=value, canvas_size=size)
    if isinstance(value, ProposalBoxes):
        return ProposalBoxes(value.as_subclass(Tensor), canvas_size=size)
    if isinstance(value, Polygons | InstancePoints):
        return type(value).wrap(value.as_subclass(Tensor), value, canvas_size=size)
    return value
