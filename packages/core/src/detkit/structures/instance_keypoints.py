"""Keypoints of instances: they move with the image through torchvision.transforms.v2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from detkit.structures.instance_points import InstancePoints


class InstanceKeypoints(InstancePoints):
    """The K keypoints of each of N instances, (N, K, 3) float32: x, y in pixels, where (0, 0) is the upper left corner
    of the upper left pixel, and how visible they are: 0 not labelled, 1 labelled but hidden, 2 visible.

    It is no `tv_tensors.KeyPoints`, which knows nothing of visibility, and whose left eye stays the left one in a
    mirror: when these are flipped left to right, keypoints change places as `flipped` says. (0, 0, 0) is written for
    keypoints that are not labelled, as in COCO files, those outside the image among them.

    Args:
        points: (N, K, 3), or anything that becomes such a tensor.
        flipped: for each keypoint the index of the one that takes its place in a mirrored image; see
            `detkit.structures.keypoints.Keypoints.flipped`.
        canvas_size: height and width of the image in pixels.
    """

    flipped: tuple[int, ...]

    def __new__(cls, points: Any, *, flipped: Sequence[int], canvas_size: tuple[int, int]) -> Self:
        tensor = cls._to_tensor(points, dtype=torch.float32)
        return cls._described(tensor.reshape(-1, len(flipped), 3), flipped=tuple(flipped), canvas_size=canvas_size)

    def hidden(self, known: Tensor) -> Tensor:
        return known.clamp(max=1)

    def mirrored(self) -> Tensor:
        return self.as_subclass(Tensor)[:, list(self.flipped)]
