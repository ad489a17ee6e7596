"""Applying one geometric operation to an image and everything that is tied to places in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import TVTensor

from detkit.data.targets import boxes_of_masks, cut_to_canvas
from detkit.structures.instance_points import InstancePoints
from detkit.structures.polygons import Polygons
from detkit.structures.proposal_boxes import ProposalBoxes
from detkit.structures.sample import Sample
from detkit.structures.semantic_map import SemanticMap

Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Where a place goes: (a x + b y + c, d x + e y + f) for ((a, b, c), (d, e, f)), in pixels of the plane."""


def moved(sample: Sample, functional: Callable[..., Any], *args: Any, **kwargs: Any) -> Sample:
    """`functional` of torchvision.transforms.v2 applied to the image and to every tv_tensor of the target (boxes,
    polygons, masks, points, proposals); the rest of the sample stays. Boxes reach over the border afterwards, until
    they are cut by `cut_to_canvas`, which then knows how much of each is left."""
    image = functional(sample.image, *args, **kwargs)
    return replace(sample, image=image, target=moved_target(sample.target, functional, *args, **kwargs))


def moved_target(target: dict[str, Any], functional: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The same for the target alone."""
    return {
        key: functional(value, *args, **kwargs) if isinstance(value, TVTensor) else value
        for key, value in unclamped(target).items()
    }


def unclamped(target: dict[str, Any]) -> dict[str, Any]:
    """The target with boxes that torchvision does not cut at the border."""
    boxes = target.get("boxes")
    if boxes is None or boxes.clamping_mode is None:
        return target
    return {**target, "boxes": tv_tensors.wrap(boxes.as_subclass(Tensor), like=boxes, clamping_mode=None)}


def resized(sample: Sample, height: int, width: int, antialias: bool = True) -> Sample:
    """The sample in another size."""
    old = tuple(sample.image.shape[-2:])
    if old == (height, width):
        return sample
    target: dict[str, Any] = {}
    for key, value in unclamped(sample.target).items():
        if isinstance(value, tv_tensors.Mask):
            target[key] = tv_tensors.Mask(_nearest(value.as_subclass(Tensor), height, width))
        elif key == "boxes" and value.shape[-1] == 5:
            scale = ((width / old[1], 0.0, 0.0), (0.0, height / old[0], 0.0))
            target[key] = tv_tensors.wrap(_turned(value, scale), like=value, canvas_size=(height, width))
        else:
            target[key] = F.resize(value, [height, width]) if isinstance(value, TVTensor) else value
    return replace(sample, image=F.resize(sample.image, [height, width], antialias=antialias), target=target)


def cropped(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """A part of the sample, inside the image. What of an instance lies outside stays until it is cut."""
    if (height, width) == tuple(sample.image.shape[-2:]):
        return sample
    return moved(sample, F.crop, top, left, height, width)


def padded(sample: Sample, left: int, top: int, right: int, bottom: int, fill: int = 0) -> Sample:
    """The sample with so many more pixels at its sides, of the grey value `fill`. What lay outside is cut before, since
    it would be inside now, where the image shows nothing of it."""
    if not (left or top or right or bottom):
        return sample
    sample = cut_to_canvas(sample)
    sides = [left, top, right, bottom]
    image = F.pad(sample.image, sides, fill=fill)
    return replace(sample, image=image, target=moved_target(sample.target, F.pad, sides))


def warped(sample: Sample, matrix: Matrix, size: tuple[int, int], fill: int = 0) -> Sample:
    """The sample under an affine map onto a canvas of another size, for maps without reflection.

    The image is sampled bilinearly; around it there is `fill`. Boxes become the tight boxes of what they are around,
    where that has an outline or a mask, else of their own corners. A rotated box keeps the direction of its height, as
    Detectron2's do.

    Args:
        sample: what is moved; what lies outside of its image is cut before.
        matrix: where each place goes.
        size: height and width of what comes out, in pixels.
        fill: grey value of what lies outside the image.
    """
    sample = cut_to_canvas(sample)
    grid = _grid(matrix, tuple(sample.image.shape[-2:]), size)
    pixels = sample.image.as_subclass(Tensor).contiguous().float().sub_(fill)
    found = _sampled(pixels, grid, "bilinear").add_(fill + 0.5).clamp_(0, 255).to(torch.uint8)
    image = torch.stack(found.unbind(), dim=-1).permute(2, 0, 1)  # laid out pixel by pixel, as decoders do
    target = {key: _warp(value, matrix, grid, size) for key, value in sample.target.items()}
    (_, b, _), (d, _, _) = matrix
    if (b or d) and "boxes" in target and target["boxes"].shape[-1] == 4:
        target["boxes"] = _tightened(target)
    return replace(sample, image=tv_tensors.Image(image), target=target)


def _tightened(target: dict[str, Any]) -> tv_tensors.BoundingBoxes:
    """Boxes around outlines and masks; as they are where there is neither."""
    boxes = target["boxes"].as_subclass(Tensor)
    if "masks" in target and "has_mask" in target:
        given = target["has_mask"]
        boxes = torch.where(given[:, None], boxes_of_masks(target["masks"].as_subclass(Tensor)), boxes)
    if "polygons" in target:
        boxes = torch.where(target["polygons"].present[:, None], target["polygons"].boxes(), boxes)
    tightened: tv_tensors.BoundingBoxes = tv_tensors.wrap(boxes, like=target["boxes"])
    return tightened


def _warp(value: Any, matrix: Matrix, grid: Tensor, size: tuple[int, int]) -> Any:
    if isinstance(value, tv_tensors.BoundingBoxes):
        moved = _turned(value, matrix) if value.shape[-1] == 5 else _corners_moved(value, matrix)
        return tv_tensors.wrap(moved, like=value, canvas_size=size, clamping_mode=None)
    if isinstance(value, ProposalBoxes):
        return ProposalBoxes(_corners_moved(value, matrix), canvas_size=size)
    if isinstance(value, Polygons):
        return Polygons.wrap(_places_moved(value.as_subclass(Tensor), matrix), value, canvas_size=size)
    if isinstance(value, InstancePoints):
        points = value.as_subclass(Tensor)
        places = torch.cat((_places_moved(points[..., :2], matrix), points[..., 2:]), dim=-1)
        return value.like_this(places, canvas_size=size)
    if isinstance(value, SemanticMap):  # counted from the label of nothing, which is what lies outside
        labels = 255 - value.as_subclass(Tensor)
        return SemanticMap(255 - _sampled(labels[None].float(), grid, "nearest")[0].to(torch.uint8))
    if isinstance(value, tv_tensors.Mask):
        return tv_tensors.Mask(_sampled(value.as_subclass(Tensor).float(), grid, "nearest").to(torch.uint8))
    return value


def _grid(matrix: Matrix, old: Sequence[int], size: tuple[int, int]) -> Tensor:
    """Where each pixel (H, W) of what comes out is looked up, (1, H, W, 2), -1 to 1 over the old image."""
    (a, b, c), (d, e, f) = matrix
    determinant = a * e - b * d
    x, y = torch.arange(size[1]) + (0.5 - c), torch.arange(size[0])[:, None] + (0.5 - f)
    across = (e * x - b * y) * (2 / (determinant * old[1])) - 1
    down = (a * y - d * x) * (2 / (determinant * old[0])) - 1
    return torch.stack((across, down), dim=-1)[None]


def _sampled(pixels: Tensor, grid: Tensor, mode: str) -> Tensor:
    """(C, H, W) float32 looked up at a grid; 0 outside."""
    if not pixels.numel():
        return pixels.new_zeros(len(pixels), *grid.shape[1:3])
    return torch.nn.functional.grid_sample(pixels[None], grid, mode, "zeros", align_corners=False)[0]


def _nearest(masks: Tensor, height: int, width: int) -> Tensor:
    """Masks (N, H, W) looked up at the centres of pixels; torchvision's are off by up to half a pixel, and slow."""
    rows = ((torch.arange(height) + 0.5) * (masks.shape[1] / height)).long().clamp_(max=masks.shape[1] - 1)
    columns = ((torch.arange(width) + 0.5) * (masks.shape[2] / width)).long().clamp_(max=masks.shape[2] - 1)
    return masks.index_select(2, columns).index_select(1, rows)


def _places_moved(places: Tensor, matrix: Matrix) -> Tensor:
    table = torch.tensor(matrix)
    return places @ table[:, :2].T + table[:, 2]


def _corners_moved(boxes: Tensor, matrix: Matrix) -> Tensor:
    """The boxes (N, 4) around the moved corners."""
    corners = boxes.as_subclass(Tensor)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    places = _places_moved(corners, matrix)
    return torch.cat((places.amin(dim=1), places.amax(dim=1)), dim=1)


def _turned(boxes: Tensor, matrix: Matrix) -> Tensor:
    """Rotated boxes (N, 5): the sides are as long as the moved sides; the angle is that of the moved height."""
    plain = boxes.as_subclass(Tensor)
    (a, b, _), (d, e, _) = matrix
    radians = plain[:, 4] * (math.pi / 180)
    cos, sin = radians.cos(), radians.sin()
    width = torch.hypot(a * cos - b * sin, d * cos - e * sin) * plain[:, 2]
    across, down = a * sin + b * cos, d * sin + e * cos
    height = torch.hypot(across, down) * plain[:, 3]
    degrees = torch.atan2(across, down) * (180 / math.pi)
    # Not by a full turn: 170 degrees turned by 20 are 190, as an angle that is learned has no jump there.
    degrees = degrees + ((plain[:, 4] - degrees) / 360).round() * 360
    return torch.cat((_places_moved(plain[:, :2], matrix), torch.stack((width, height, degrees), dim=1)), dim=1)
