"""Outlines of instances: they move with the image through torchvision.transforms.v2 and become masks at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from hotcoco import mask as rle
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import TVTensor


class Polygons(TVTensor):
    """The outlines of N instances, each of any number of rings: none (it has no outline), one, or several parts.

    The tensor itself holds the points of all rings after each other, (P, 2) float32 x, y in pixels, where (0, 0) is the
    upper left corner of the upper left pixel. `ring_ends` (R,) says where each ring ends in it, `instance_ends` (N,)
    where each instance ends among the rings. `canvas_size` is (height, width) of the image. Points may lie outside
    the canvas; `clipped` cuts there.

    Args:
        points: (P, 2), or anything that becomes such a tensor.
        ring_ends: rising offsets into the points.
        instance_ends: rising offsets into the rings.
        canvas_size: height and width of the image in pixels.
    """

    ring_ends: NDArray[np.int64]
    instance_ends: NDArray[np.int64]
    canvas_size: tuple[int, int]

    def __new__(cls, points: Any, *, ring_ends: Any, instance_ends: Any, canvas_size: tuple[int, int]) -> Polygons:
        tensor = cls._to_tensor(points, dtype=torch.float32).reshape(-1, 2)
        return _describe(tensor, np.asarray(ring_ends, np.int64), np.asarray(instance_ends, np.int64), canvas_size)

    @classmethod
    def from_rings(cls, instances: Sequence[Sequence[Any]], canvas_size: tuple[int, int]) -> Polygons:
        """From each instance's rings, each (K, 2) or flat [x, y, x, y, ...] as in COCO files."""
        rings = [np.asarray(ring, np.float32).reshape(-1, 2) for instance in instances for ring in instance]
        points = np.concatenate(rings) if rings else np.zeros((0, 2), np.float32)
        return cls(
            torch.from_numpy(points),
            ring_ends=np.cumsum([len(ring) for ring in rings], dtype=np.int64),
            instance_ends=np.cumsum([len(instance) for instance in instances], dtype=np.int64),
            canvas_size=canvas_size,
        )

    @classmethod
    def wrap(cls, tensor: Tensor, like: Polygons, **changes: Any) -> Polygons:
        """`tensor` with the description of `like`; torchvision's protocol for its tensors."""
        canvas_size = changes.get("canvas_size", like.canvas_size)
        return _describe(tensor, like.ring_ends, like.instance_ends, canvas_size)

    @classmethod
    def _wrap_output(cls, output: Any, args: Any = (), kwargs: Any = None) -> Any:
        like = next((value for value in args if isinstance(value, Polygons)), None)
        if isinstance(output, Tensor) and like is not None:  # clone, to, detach: the points stay the same points
            return cls.wrap(output.as_subclass(Tensor), like)
        return output

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Polygons({self.num_instances} instances, {len(self.ring_ends)} rings, canvas_size={self.canvas_size})"

    @property
    def num_instances(self) -> int:
        """N; `len` counts points, as it does for every tensor's first dimension."""
        return len(self.instance_ends)

    @property
    def present(self) -> Tensor:
        """(N,) bool: which instances have an outline."""
        return torch.from_numpy(np.diff(self.instance_ends, prepend=0) > 0)

    def rings(self) -> list[list[NDArray[np.float32]]]:
        """Each instance's rings, each (K, 2)."""
        rings = np.split(self.numpy(force=True), self.ring_ends[:-1]) if len(self.ring_ends) else []
        ends = [0, *self.instance_ends.tolist()]
        return [rings[start:end] for start, end in pairwise(ends)]

    def select(self, index: Tensor) -> Polygons:
        """The instances that `index` picks: a mask (N,) bool, or positions (M,)."""
        rings = self.rings()
        picked = torch.arange(self.num_instances)[index].tolist()
        if picked == list(range(self.num_instances)):
            return self
        return Polygons.from_rings([rings[position] for position in picked], self.canvas_size)

    def clipped(self) -> Polygons:
        """The part inside the canvas; rings with nothing inside vanish."""
        height, width = self.canvas_size
        points = self.numpy(force=True)
        if (points >= 0).all() and (points <= (width, height)).all():
            return self
        cut = [[_clip(ring, width, height) for ring in instance] for instance in self.rings()]
        return Polygons.from_rings(
            [[ring for ring in instance if len(ring) >= 3] for instance in cut], self.canvas_size
        )

    def boxes(self) -> Tensor:
        """Bounding boxes (N, 4) xyxy of all points; zeros for instances without outline."""
        boxes = torch.zeros(self.num_instances, 4)
        for box, instance in zip(boxes, self.rings(), strict=True):
            if instance:
                points = np.concatenate(instance)
                box[:] = torch.from_numpy(np.concatenate((points.min(0), points.max(0))))
        return boxes

    def rasterize(self, out: Tensor | None = None) -> Tensor:
        """Masks (N, H, W) uint8, 0 or 1, of the union of each instance's rings, by COCO's rules to the pixel.

        Args:
            out: zeros (at least N, H, W) uint8 to write into, instead of a new tensor.
        """
        height, width = self.canvas_size
        masks = torch.zeros(self.num_instances, height, width, dtype=torch.uint8) if out is None else out
        for mask, instance in zip(masks, self.rings(), strict=False):
            if not instance:
                continue
            # Only the part around the outline: whole pixels of offset change nothing, and far fewer are decoded.
            points = np.concatenate(instance)
            left, top = np.clip(np.floor(points.min(0)) - 1, 0, (width, height)).astype(int).tolist()
            right, bottom = np.clip(np.ceil(points.max(0)) + 1, 0, (width, height)).astype(int).tolist()
            if left < right and top < bottom:
                flat = [(ring - (left, top)).ravel().tolist() for ring in instance]
                code = rle.merge(rle.fr_py_objects(flat, bottom - top, right - left))
                mask[top:bottom, left:right] = torch.from_numpy(rle.decode(code))
        return masks


def _describe(
    tensor: Tensor, ring_ends: NDArray[np.int64], instance_ends: NDArray[np.int64], canvas_size: tuple[int, int]
) -> Polygons:
    polygons = tensor.as_subclass(Polygons)
    polygons.ring_ends = ring_ends
    polygons.instance_ends = instance_ends
    polygons.canvas_size = canvas_size
    return polygons


def _clip(ring: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """The part of a ring (K, 2) inside the rectangle (0, 0, width, height), after Sutherland and Hodgman 1974. Where
    that has several parts they stay one ring, joined by edges along the border, which enclose nothing."""
    for axis, sign, limit in ((0, 1, 0), (0, -1, -width), (1, 1, 0), (1, -1, -height)):
        inside = sign * ring[:, axis] >= limit
        if inside.all():
            continue
        if not inside.any():
            return ring[:0]
        following = np.roll(ring, -1, axis=0)
        crosses = inside != np.roll(inside, -1)
        delta = following[:, axis] - ring[:, axis]
        share = (sign * limit - ring[:, axis]) / np.where(crosses, delta, 1)
        crossing = ring + share[:, None] * (following - ring)
        crossing[:, axis] = sign * limit  # exactly, whatever rounding does
        both = np.stack((ring, crossing), axis=1).reshape(-1, 2)
        ring = both[np.stack((inside, crosses), axis=1).ravel()]
    return ring


def _flip(axis: int) -> Callable[[Polygons], Polygons]:
    def kernel(polygons: Polygons) -> Polygons:
        points = polygons.as_subclass(Tensor).clone()
        points[:, axis] = polygons.canvas_size[1 - axis] - points[:, axis]
        return Polygons.wrap(points, polygons)

    return kernel


def _as_keypoints(functional: Callable[..., Any]) -> Callable[..., Polygons]:
    """A kernel that moves the points as torchvision moves key points."""

    def kernel(polygons: Polygons, *args: Any, **kwargs: Any) -> Polygons:
        # One more point, because torchvision forgets to change the canvas of an empty set.
        points = torch.cat((polygons.as_subclass(Tensor), torch.zeros(1, 2)))
        moved = functional(tv_tensors.KeyPoints(points, canvas_size=polygons.canvas_size), *args, **kwargs)
        return Polygons.wrap(moved.as_subclass(Tensor)[:-1], polygons, canvas_size=tuple(moved.canvas_size))

    return kernel


def _refuse(polygons: Polygons, *args: Any, **kwargs: Any) -> Polygons:
    raise ValueError(
        "elastic transforms bend outlines, which polygons cannot follow; use another transform, or bitmap masks"
    )


# torchvision flips key points as if they were pixel indices (x -> width - 1 - x); outlines are places in the plane.
F.register_kernel(F.horizontal_flip, Polygons)(_flip(0))
F.register_kernel(F.vertical_flip, Polygons)(_flip(1))
F.register_kernel(F.elastic, Polygons)(_refuse)
for _functional in (F.resize, F.crop, F.center_crop, F.resized_crop, F.pad, F.affine, F.rotate, F.perspective):
    F.register_kernel(_functional, Polygons)(_as_keypoints(_functional))
