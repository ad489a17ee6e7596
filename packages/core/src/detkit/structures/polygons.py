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

_ZERO = np.zeros(1, np.int64)
_NONE = np.zeros(0, np.int64)


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
        starts = np.concatenate(([0], self.instance_ends[:-1]))
        return torch.from_numpy(starts[: self.num_instances] < self.instance_ends)

    def rings(self) -> list[list[NDArray[np.float32]]]:
        """Each instance's rings, each (K, 2)."""
        points = self.numpy(force=True)
        rings = [points[start:end] for start, end in pairwise((0, *self.ring_ends.tolist()))]
        ends = [0, *self.instance_ends.tolist()]
        return [rings[start:end] for start, end in pairwise(ends)]

    @classmethod
    def cat(cls, parts: Sequence[Polygons], canvas_size: tuple[int, int]) -> Polygons:
        """The instances of several, one after the other, on one canvas."""
        points = np.cumsum([0, *(len(part) for part in parts)])
        rings = np.cumsum([0, *(len(part.ring_ends) for part in parts)])
        return cls(
            torch.cat([torch.zeros(0, 2), *(part.as_subclass(Tensor) for part in parts)]),
            ring_ends=np.concatenate(
                [_NONE, *(part.ring_ends + start for part, start in zip(parts, points, strict=False))]
            ),
            instance_ends=np.concatenate(
                [_NONE, *(part.instance_ends + start for part, start in zip(parts, rings, strict=False))]
            ),
            canvas_size=canvas_size,
        )

    def select(self, index: Tensor) -> Polygons:
        """The instances that `index` picks: a mask (N,) bool, or positions (M,)."""
        picked = np.arange(self.num_instances)[index.numpy(force=True)]
        if len(picked) == self.num_instances and (np.diff(picked) > 0).all():
            return self
        starts, counts = _starts_and_counts(self.instance_ends)
        rings = _ranges(starts[picked], counts[picked])
        ring_starts, ring_counts = _starts_and_counts(self.ring_ends)
        points = _ranges(ring_starts[rings], ring_counts[rings])
        return Polygons(
            torch.from_numpy(self.numpy(force=True)[points]),
            ring_ends=np.cumsum(ring_counts[rings]),
            instance_ends=np.cumsum(counts[picked]),
            canvas_size=self.canvas_size,
        )

    def without(self, index: Tensor) -> Polygons:
        """All instances, but those of a mask (N,) bool have lost their outline."""
        _, counts = _starts_and_counts(self.instance_ends)
        return self._with_rings(self.numpy(force=True), self.ring_ends, ~np.repeat(index.numpy(force=True), counts))

    def clipped(self) -> Polygons:
        """The part inside the canvas, after Sutherland and Hodgman 1974; rings with nothing inside vanish. Where the
        part of a ring has several parts they stay one ring, joined by edges along the border, which enclose nothing."""
        height, width = self.canvas_size
        points, ends = self.numpy(force=True), self.ring_ends
        if (points >= 0).all() and (points <= (width, height)).all():
            return self
        for axis, sign, limit in ((0, 1, 0), (0, -1, -width), (1, 1, 0), (1, -1, -height)):
            inside = sign * points[:, axis] >= limit
            if inside.all():
                continue
            following = points[_following(ends)]
            crosses = inside != inside[_following(ends)]
            share = (sign * limit - points[:, axis]) / np.where(crosses, following[:, axis] - points[:, axis], 1)
            crossing = points + share[:, None] * (following - points)
            crossing[:, axis] = sign * limit  # exactly, whatever rounding does
            both = np.stack((points, crossing), axis=1).reshape(-1, 2)
            points = both[np.stack((inside, crosses), axis=1).ravel()]
            ends = np.concatenate((_ZERO, np.cumsum(inside + crosses.astype(np.int64))))[ends]
        return self._with_rings(points, ends, _starts_and_counts(ends)[1] >= 3)

    def _with_rings(self, points: NDArray[Any], ends: NDArray[np.int64], keep: NDArray[np.bool_]) -> Polygons:
        """These instances with other points (P, 2) of their rings, of which those that `keep` (R,) names stay."""
        _, counts = _starts_and_counts(ends)
        return Polygons(
            torch.from_numpy(points[np.repeat(keep, counts)].astype(np.float32)),
            ring_ends=np.cumsum(counts[keep]),
            instance_ends=np.concatenate((_ZERO, np.cumsum(keep)))[self.instance_ends],
            canvas_size=self.canvas_size,
        )

    def boxes(self) -> Tensor:
        """Bounding boxes (N, 4) xyxy of all points; zeros for instances without outline."""
        starts, counts = _starts_and_counts(self._point_ends())
        boxes = np.zeros((self.num_instances, 4), np.float32)
        if (filled := np.flatnonzero(counts)).size:
            points = self.numpy(force=True)
            boxes[filled, :2] = np.minimum.reduceat(points, starts[filled])
            boxes[filled, 2:] = np.maximum.reduceat(points, starts[filled])
        return torch.from_numpy(boxes)

    def areas(self) -> Tensor:
        """Areas (N,) float32 in square pixels, the sum over each instance's rings."""
        points = self.numpy(force=True).astype(np.float64)
        following = points[_following(self.ring_ends)]
        doubled = points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]
        rings = np.abs(_sums(doubled, self.ring_ends))
        return torch.from_numpy((_sums(rings, self.instance_ends) / 2).astype(np.float32))

    def _point_ends(self) -> NDArray[np.int64]:
        """(N,) where each instance ends among the points."""
        return np.concatenate((_ZERO, self.ring_ends))[self.instance_ends]

    def rasterize(self, out: Tensor | None = None) -> Tensor:
        """Masks (N, H, W) uint8, 0 or 1, of the union of each instance's rings, by COCO's rules to the pixel.

        Args:
            out: zeros (at least N, H, W) uint8 to write into, instead of a new tensor.
        """
        height, width = self.canvas_size
        masks = torch.zeros(self.num_instances, height, width, dtype=torch.uint8) if out is None else out
        pixels = masks.numpy()
        # Only the part around each outline: whole pixels of offset change nothing, and far fewer are decoded.
        boxes, (_, counts) = self.boxes().numpy(), _starts_and_counts(self._point_ends())
        corner = np.clip(np.floor(boxes[:, :2]) - 1, 0, (width, height)).astype(np.int64)
        opposite = np.clip(np.ceil(boxes[:, 2:]) + 1, 0, (width, height)).astype(np.int64)
        shifted = self.numpy(force=True) - corner.repeat(counts, axis=0)
        flat, ring_ends = shifted.ravel().tolist(), (2 * self.ring_ends).tolist()
        rings = [flat[start:end] for start, end in pairwise((0, *ring_ends))]
        spans = pairwise((0, *self.instance_ends.tolist()))
        places = zip(spans, corner.tolist(), opposite.tolist(), strict=True)
        for mask, ((start, end), (left, top), (right, bottom)) in zip(pixels, places, strict=False):
            if start < end and left < right and top < bottom:
                codes = rle.fr_py_objects(rings[start:end], bottom - top, right - left)
                code = codes[0] if len(codes) == 1 else rle.merge(codes)
                mask[top:bottom, left:right] = rle.decode(code)
        return masks


def _describe(
    tensor: Tensor, ring_ends: NDArray[np.int64], instance_ends: NDArray[np.int64], canvas_size: tuple[int, int]
) -> Polygons:
    polygons = tensor.as_subclass(Polygons)
    polygons.ring_ends = ring_ends
    polygons.instance_ends = instance_ends
    polygons.canvas_size = canvas_size
    return polygons


def _starts_and_counts(ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each of the consecutive parts that end at `ends` starts, and how long it is."""
    starts = np.concatenate((_ZERO, ends))[:-1]
    return starts, ends - starts


def _ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """start, start + 1, ..., `count` of them, for each start and count, one after the other."""
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - before, counts)


def _following(ring_ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """(P,) the position of the point that comes after each in its ring; the first comes after the last."""
    starts, counts = _starts_and_counts(ring_ends)
    following = np.arange(1, counts.sum() + 1)
    following[ring_ends[counts > 0] - 1] = starts[counts > 0]
    return following


def _sums(values: NDArray[np.float64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sums of the consecutive parts that end at `ends`, of which some may be empty."""
    return np.diff(np.concatenate((_ZERO, np.cumsum(values)))[ends], prepend=0)


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
