"""Points of instances: they move with the image through torchvision.transforms.v2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import TVTensor


class InstancePoints(TVTensor):
    """K points of each of N instances, (N, K, 3) float32: x, y in pixels, where (0, 0) is the upper left corner of the
    upper left pixel, and what is known of each point, as a number.

    A class derived from this one says what the number means. An entry of a target that is of such a class goes wherever
    the instances go: it moves with the image, is cut, chosen and joined with them, and comes to the model as a tensor
    (B, G, K, 3) in `Targets.extra`, under the name of the entry. `canvas_size` is (height, width) of the image; points
    may lie outside until they are `cut`.

    Args:
        points: (N, K, 3), or anything that becomes such a tensor.
        canvas_size: height and width of the image in pixels.
    """

    unknown: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.0)
    """What is written for a point of which nothing is known; its last number says so."""

    canvas_size: tuple[int, int]

    def __new__(cls, points: Any, *, canvas_size: tuple[int, int]) -> Self:
        return cls._described(cls._to_tensor(points, dtype=torch.float32), canvas_size=canvas_size)

    @classmethod
    def _described(cls, tensor: Tensor, **attributes: Any) -> Self:
        points = tensor.as_subclass(cls)
        points.__dict__.update(attributes)
        return points

    @classmethod
    def wrap(cls, tensor: Tensor, like: InstancePoints, **changes: Any) -> Self:
        """`tensor` with the description of `like`; torchvision's protocol for its tensors."""
        return cls._described(tensor, **{**like.__dict__, **changes})

    @classmethod
    def _wrap_output(cls, output: Any, args: Any = (), kwargs: Any = None) -> Any:
        like = next((value for value in args if isinstance(value, cls)), None)
        if isinstance(output, Tensor) and like is not None:  # clone, to, detach
            return cls.wrap(output.as_subclass(Tensor), like)
        return output

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"{type(self).__name__}({tuple(self.shape)}, canvas_size={self.canvas_size})"

    def like_this(self, points: Tensor, **changes: Any) -> Self:
        """Other points with the description of these."""
        return type(self).wrap(points, self, **changes)

    def select(self, index: Tensor) -> Self:
        """The instances that `index` picks: a mask (N,) bool, or positions (M,)."""
        return self.like_this(self.as_subclass(Tensor)[index])

    def cut(self, canvas_size: tuple[int, int]) -> Self:
        """Nothing is known of points outside a canvas (height, width)."""
        points = self.as_subclass(Tensor)
        limit = points.new_tensor((canvas_size[1], canvas_size[0]))
        inside = ((points[..., :2] >= 0) & (points[..., :2] <= limit)).all(dim=-1)
        known = inside & (points[..., 2] != self.unknown[2])
        return self.like_this(
            torch.where(known[..., None], points, points.new_tensor(self.unknown)), canvas_size=canvas_size
        )

    def covered(self, over: Tensor) -> Self:
        """The points after something else came before the pixels `over` (H, W) bool of the image."""
        points = self.as_subclass(Tensor).clone()
        x = points[..., 0].long().clamp(0, over.shape[1] - 1)
        y = points[..., 1].long().clamp(0, over.shape[0] - 1)
        points[..., 2] = torch.where(over[y, x], self.hidden(points[..., 2]), points[..., 2])
        return self.like_this(points)

    def hidden(self, known: Tensor) -> Tensor:
        """What is known of points once they are covered, from what was known of them."""
        return known

    def mirrored(self) -> Tensor:
        """The points (N, K, 3) in the order that they have in a mirrored image, not yet moved."""
        return self.as_subclass(Tensor).clone()


def _flip_horizontal(instances: InstancePoints) -> InstancePoints:
    points = instances.mirrored()
    points[..., 0] = instances.canvas_size[1] - points[..., 0]
    return instances.like_this(points)


def _flip_vertical(instances: InstancePoints) -> InstancePoints:
    points = instances.as_subclass(Tensor).clone()
    points[..., 1] = instances.canvas_size[0] - points[..., 1]
    return instances.like_this(points)


def _as_places(functional: Callable[..., Any]) -> Callable[..., InstancePoints]:
    """A kernel that moves the points as torchvision moves key points."""

    def kernel(instances: InstancePoints, *args: Any, **kwargs: Any) -> InstancePoints:
        points = instances.as_subclass(Tensor)
        # One more point, because torchvision forgets to change the canvas of an empty set.
        places = torch.cat((points[..., :2].reshape(-1, 2), torch.zeros(1, 2)))
        moved = functional(tv_tensors.KeyPoints(places, canvas_size=instances.canvas_size), *args, **kwargs)
        xy = moved.as_subclass(Tensor)[:-1].reshape(*points.shape[:-1], 2)
        both = torch.cat((xy, points[..., 2:]), dim=-1)
        return instances.like_this(both, canvas_size=tuple(moved.canvas_size))

    return kernel


F.register_kernel(F.horizontal_flip, InstancePoints)(_flip_horizontal)
F.register_kernel(F.vertical_flip, InstancePoints)(_flip_vertical)
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
    F.register_kernel(_functional, InstancePoints)(_as_places(_functional))
