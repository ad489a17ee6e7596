"""One image and its annotations, on the way from the dataset through the transforms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torchvision import tv_tensors


@dataclass
class Sample:
    """An image with its annotations.

    image: tv_tensors.Image (3, H, W) uint8 RGB.
    target: a dict that torchvision.transforms.v2 understands, every entry with one row for each of N instances:
        boxes     tv_tensors.BoundingBoxes (N, 4) XYXY, canvas size that of the image
        labels    (N,) int64 contiguous labels
        crowd     (N,) bool; crowds are left out of training and ignored in evaluation
        polygons  detkit.structures.polygons.Polygons, where instances have outlines; rasterised as late as possible
        masks     tv_tensors.Mask (N, H, W) uint8, where masks are given as bitmaps (rows of instances with polygons are
        0) keypoints tv_tensors.KeyPoints (N, K, 2) with visibility (N, K), where there are keypoints
    info: image_id (the dataset's own), path, original_size (height, width) of the file; stays on the host.
    """

    image: tv_tensors.Image
    target: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
