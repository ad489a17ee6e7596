"""Keypoints of instances: they move with the image through torchvision.transforms.v2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import TVTensor


class InstanceKeypoints(TVTensor):
    """The K keypoints of each of N instances, (N, K, 3) float32: x, y in pixels, where (0, 0) is the upper left corner
    of the upper left pixel, and how visible they are: 0 not labelled, 1 labelled but hidden, 2 visible.

    It is no `tv_tensors.KeyPoints`, which knows nothing of visibility, and whose left eye stays the left one in a
    mirror: when these are flipped left to right, keypoints change places as `flipped` says. `canvas_size` is (height,
    width) of the image; points may lie outside until they are `cut`.

    Args:
        points: (N, K, 3), or anything that becomes such a tensor.
        flipped: for each keypoint the index of the one that takes its place in a mirrored image; see
            `detkit.structures.keypoints.Keypoints.flipped`.
        canvas_size: height and width of the image in pixels.
    """

    flipped: tuple[int, ...]
    canvas_size: tuple[int, int]

    def __new__(cls, points: Any, *, flipped: Sequence[int], canvas_size: tuple[int, int]) -> InstanceKeypoints:
        tensor = cls._to_tensor(points, dtype=torch.float32)
        return _describe(tensor.reshape(-1, len(flipped), 3), tuple(flipped), canvas_size)

    @classmethod
    def wrap(cls, tensor: Tensor, like: InstanceKeypoints, **changes: Any) -> InstanceKeypoints:
        """`tensor` with the description of `like`; torchvision's protocol for its tensors."""
        return _describe(tensor, like.flipped, changes.get("canvas_size", like.canvas_size))

    @classmethod
    def _wrap_output(cls, output: Any, args: Any = (), kwargs: Any = None) -> Any:
        like = next((value for value in args if isinstance(value, InstanceKeypoints)), None)
        if isinstance(output, Tensor) and like is not None:  # clone, to, detach
            return cls.wrap(output.as_subclass(Tensor), like)
        return output

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"InstanceKeypoints({tuple(self.shape)}, canvas_size={self.canvas_size})"

    def select(self, index: Tensor) -> InstanceKeypoints:
        """The instances that `index` picks: a mask (N,) bool, or positions (M,)."""
        return InstanceKeypoints.wrap(self.as_subclass(Tensor)[index], self)

    def cut(self, canvas_size: tuple[int, int]) -> InstanceKeypoints:
        """Points outside a canvas (height, width) are no longer labelled; (0, 0, 0) is written for those that are not,
        as in COCO files."""
        points = self.as_subclass(Tensor)
        limit = points.new_tensor((canvas_size[1], canvas_size[0]))
        inside = ((points[..., :2] >= 0) & (points[..., :2] <= limit)).all(dim=-1)
        labelled = inside & (points[..., 2] > 0)
        return InstanceKeypoints.wrap(torch.where(labelled[..., None], points, 0.0), self, canvas_size=canvas_size)


def _describe(tensor: Tensor, flipped: tuple[int, ...], canvas_size: tuple[int, int]) -> InstanceKeypoints:
    keypoints = tensor.as_subclass(InstanceKeypoints)
    keypoints.flipped = flipped
    keypoints.canvas_size = canvas_size
    return keypoints


def _flip_horizontal(keypoints: InstanceKeypoints) -> InstanceKeypoints:
    points = keypoints.as_subclass(Tensor)[:, list(keypoints.flipped)]
    points[..., 0] = keypoints.canvas_size[1] - points[..., 0]
    return InstanceKeypoints.wrap(points, keypoints)


def _flip_vertical(keypoints: InstanceKeypoints) -> InstanceKeypoints:
    points = keypoints.as_subclass(Tensor).clone()
    points[..., 1] = keypoints.canvas_size[0] - points[..., 1]
    return InstanceKeypoints.wrap(points, keypoints)


def _as_places(functional: Callable[..., Any]) -> Callable[..., InstanceKeypoints]:
    """A kernel that moves the points as torchvision moves key points."""

    def kernel(keypoints: InstanceKeypoints, *args: Any, **kwargs: Any) -> InstanceKeypoints:
        points = keypoints.as_subclass(Tensor)
        # One more point, because torchvision forgets to change the canvas of an empty set.
        places = torch.cat((points[..., :2].reshape(-1, 2), torch.zeros(1, 2)))
        moved = functional(tv_tensors.KeyPoints(places, canvas_size=keypoints.canvas_size), *args, **kwargs)
        xy = moved.as_subclass(Tensor)[:-1].reshape(*points.shape[:-1], 2)
        both = torch.cat((xy, points[..., 2:]), dim=-1)
        return InstanceKeypoints.wrap(both, keypoints, canvas_size=tuple(moved.canvas_size))

    return kernel


F.register_kernel(F.horizontal_flip, InstanceKeypoints)(_flip_horizontal)
F.register_kernel(F.vertical_flip, InstanceKeypoints)(_flip_vertical)
for _functional in (
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
    F.register_kernel(_functional, InstanceKeypoints)(_as_places(_functional))
