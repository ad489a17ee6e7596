"""Applying one geometric operation to an image and everything that is tied to places in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torchvision.tv_tensors import TVTensor

from detkit.structures.sample import Sample


def moved(sample: Sample, functional: Callable[..., Any], *args: Any, **kwargs: Any) -> Sample:
    """`functional` of torchvision.transforms.v2 applied to the image and to every tv_tensor of the target (boxes,
    polygons, masks, keypoints, proposals); the rest of the sample stays."""
    image = functional(sample.image, *args, **kwargs)
    return replace(sample, image=image, target=moved_target(sample.target, functional, *args, **kwargs))


def moved_target(target: dict[str, Any], functional: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The same for the target alone."""
    return {
        key: functional(value, *args, **kwargs) if isinstance(value, TVTensor) else value
        for key, value in target.items()
    }
