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

from detkit.interfaces import Transform
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
            inspect.signature(cls).bind(**(arguments or {}))
        except TypeError as error:
            raise ValueError(f"torchvision's {transform}: {error}; it takes {inspect.signature(cls)}") from None
        self.transform = cls(**(arguments or {}))

    def __call__(self, sample: Sample) -> Sample:
        image, target = self.transform(sample.image, sample.target)
        before, after = sample.target.get("boxes"), target.get("boxes")
        if "polygons" in target and before is not None and not torch.equal(before, after):
            outlined = target["polygons"].present
            boxes = torch.where(outlined[:, None], target["polygons"].boxes(), after.as_subclass(Tensor))
            target["boxes"] = tv_tensors.wrap(boxes, like=after)
        return replace(sample, image=image, target=target)
