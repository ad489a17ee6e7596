"""From a sample that the transforms are done with to what a model trains on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from detkit.ops.boxes import box_sides, clip_boxes
from detkit.ops.rotated_iou import rotated_iou
from detkit.structures.batch import Batch
from detkit.structures.instance_points import InstancePoints
from detkit.structures.polygons import Polygons
from detkit.structures.proposal_boxes import ProposalBoxes
from detkit.structures.sample import Sample

OF_THE_IMAGE = ("proposals", "proposal_scores", "semantic")  # entries of a target without a row for each instance
SMALLEST_SIDE = 1e-5  # pixels; a box that is thinner is empty, as in Detectron2


def select(sample: Sample, keep: Tensor) -> Sample:
    """The sample with the instances that `keep` (N,) bool names."""
    if bool(keep.all()):
        return sample
    target: dict[str, Any] = {}
    for key, value in sample.target.items():
        if key in OF_THE_IMAGE:
            target[key] = value
        elif isinstance(value, Polygons | InstancePoints):
            target[key] = value.select(keep)
        else:
            target[key] = (
                tv_tensors.wrap(value[keep], like=value) if isinstance(value, tv_tensors.TVTensor) else value[keep]
            )
    return replace(sample, target=target)


def without_crowds(sample: Sample) -> Sample:
    """The sample without crowds, and without bitmaps if those that are left have none."""
    if "crowd" in sample.target:
        sample = select(sample, ~sample.target["crowd"])
    if "masks" in sample.target and not sample.target["masks"].any():
        sample = replace(sample, target={key: value for key, value in sample.target.items() if key != "masks"})
    return sample


def cut_to_canvas(sample: Sample) -> Sample:
    """Cut boxes and outlines at the image's border and leave out instances with nothing inside.

    The box of an instance whose outline or mask is cut becomes the tight box of what is left of it. Nothing is known
    any more of points outside, such as keypoints. Proposals are cut too, and left out where they are empty. Rotated
    boxes are cut if they are upright, see `clip_rotated_boxes`, and left out if nothing of them is inside.
    """
    target = dict(sample.target)
    height, width = sample.image.shape[-2:]
    boxes = target["boxes"].as_subclass(Tensor)
    rotated = boxes.shape[1] == 5
    inside = clip_boxes(boxes[None], torch.tensor([[height, width]]))[0]
    # Transforms of torchvision clamp boxes by themselves: a box at the border may have been cut.
    limit = boxes.new_tensor((width, height, width, height))
    at_border = ((inside[:, :4] <= 0) | (inside[:, :4] >= limit)).any(dim=1) & (not rotated)
    if "polygons" in target:
        # With the image's size: torchvision rounds that of turned points otherwise than that of turned images.
        outlines = Polygons.wrap(
            target["polygons"].as_subclass(Tensor), target["polygons"], canvas_size=(height, width)
        )
        target["polygons"] = clipped = outlines.clipped()
        if clipped is not outlines and not rotated:
            left_of_them = clipped.boxes()
            cut = outlines.present & ~_equal(outlines.boxes(), left_of_them)
            inside = torch.where(cut[:, None], left_of_them, inside)
        at_border &= ~outlines.present
    empty = torch.zeros(len(boxes), dtype=torch.bool)
    if "masks" in target and "has_mask" in target:
        given = target["has_mask"] & ~sample.target["polygons"].present if "polygons" in target else target["has_mask"]
        rows = given.nonzero()[:, 0]
        tight = boxes_of_masks(target["masks"].as_subclass(Tensor)[rows])
        empty[rows] = (tight[:, 2:] <= tight[:, :2]).any(dim=1)
        inside[rows] = torch.where(at_border[rows, None], tight, inside[rows]) if not rotated else inside[rows]
    for key, value in target.items():
        if isinstance(value, InstancePoints):
            target[key] = value.cut((height, width))
    if "proposals" in target:
        proposals = target["proposals"].cut((height, width)).as_subclass(Tensor)
        left = (proposals[:, 2:] > proposals[:, :2]).all(dim=1)
        target["proposals"] = ProposalBoxes(proposals[left], canvas_size=(height, width))
        target["proposal_scores"] = target["proposal_scores"][left]
    target["boxes"] = tv_tensors.wrap(inside, like=target["boxes"], canvas_size=(height, width))
    keep = (torch.stack(box_sides(inside)).amin(dim=0) > SMALLEST_SIDE) & ~empty
    if rotated:
        keep &= _canvas_iou(inside, (height, width)) > 0
    return select(replace(sample, target=target), keep)


def visible_shares(sample: Sample) -> Tensor:
    """(N,) float32 from 0 to 1: how much of each instance lies on the canvas, of its outline's area where it has one,
    else of its box's. Everything does after `cut_to_canvas`."""
    boxes, size = sample.target["boxes"].as_subclass(Tensor), tuple(sample.image.shape[-2:])
    width, height = box_sides(boxes)
    whole = width * height
    if boxes.shape[1] == 5:
        iou = _canvas_iou(boxes, size)
        left = iou * (whole + size[0] * size[1]) / (1 + iou)
    else:
        width, height = box_sides(clip_boxes(boxes[None], torch.tensor([size]))[0])
        left = width * height
    if "polygons" in sample.target:
        outlines = Polygons.wrap(
            sample.target["polygons"].as_subclass(Tensor), sample.target["polygons"], canvas_size=size
        )
        whole = torch.where(outlines.present, outlines.areas(), whole)
        left = torch.where(outlines.present, outlines.clipped().areas(), left)
    return torch.where(whole > 0, left / whole.clamp(min=1e-12), 0).clamp(max=1)


def _canvas_iou(boxes: Tensor, size: tuple[int, ...]) -> Tensor:
    """The overlap of rotated boxes (N, 5) with a canvas (height, width)."""
    canvas = boxes.new_tensor([[size[1] / 2, size[0] / 2, size[1], size[0], 0]])
    return rotated_iou(boxes, canvas)[:, 0]


def mask_areas(target: dict[str, Any]) -> Tensor:
    """(N,) float32 square pixels: of the outline where an instance has one, else of the bitmap, else of the box."""
    width, height = box_sides(target["boxes"].as_subclass(Tensor))
    areas = width * height
    if "masks" in target and "has_mask" in target:
        pixels = target["masks"].as_subclass(Tensor).sum(dim=(1, 2), dtype=torch.int64)
        areas = torch.where(target["has_mask"], pixels.to(areas.dtype), areas)
    if "polygons" in target:
        areas = torch.where(target["polygons"].present, target["polygons"].areas(), areas)
    return areas


def best_proposals(sample: Sample, count: int) -> Sample:
    """The sample with no more than its `count` best proposals, if it has any."""
    if "proposals" not in sample.target:
        return sample
    best = {name: sample.target[name][:count] for name in ("proposals", "proposal_scores")}
    return replace(sample, target={**sample.target, **best})


def _equal(first: Tensor, second: Tensor) -> Tensor:
    return (first == second).all(dim=1)


def boxes_of_masks(masks: Tensor) -> Tensor:
    """Tight boxes (N, 4) of masks (N, H, W); zeros for those without a pixel."""
    sides = []
    for hit in (masks.amax(dim=1) > 0, masks.amax(dim=2) > 0):  # columns (N, W), rows (N, H)
        counts, length = hit.to(torch.uint8), hit.shape[1]
        first, last = counts.argmax(dim=1), length - counts.flip(1).argmax(dim=1)
        sides.append(torch.where(hit.any(dim=1)[:, None], torch.stack((first, last), dim=1), 0))
    (left, right), (top, bottom) = (side.unbind(dim=1) for side in sides)
    return torch.stack((left, top, right, bottom), dim=1).float()


def plain_target(sample: Sample) -> dict[str, Tensor]:
    """The target as plain tensors, but for what becomes masks, and for crowds."""
    return {
        key: value.as_subclass(Tensor)
        for key, value in sample.target.items()
        if isinstance(value, Tensor) and not isinstance(value, Polygons) and key not in ("crowd", "masks")
    }


def rasterized(sample: Sample) -> dict[str, Tensor]:
    """The target as plain tensors, outlines and bitmaps turned into one stack of `masks` (N, H, W) uint8."""
    plain = plain_target(sample)
    if "polygons" in sample.target or "masks" in sample.target:
        plain["masks"] = torch.zeros(len(plain["labels"]), *sample.image.shape[-2:], dtype=torch.uint8)
        draw_masks(sample.target, plain["masks"])
    return plain


def draw_masks(target: dict[str, Any], masks: Tensor) -> None:
    """Write the outlines and bitmaps of a target into zeros (at least N, H, W) uint8."""
    if "polygons" in target:
        target["polygons"].rasterize(out=masks)
    if "masks" in target:
        count, height, width = target["masks"].shape
        masks[:count, :height, :width] |= target["masks"].as_subclass(Tensor)


def collate(samples: list[Sample], seeds: list[int], divisor: int, square: int = 0, *, masks: bool = True) -> Batch:
    """One batch of samples, `seeds` for what the model draws at random in each; padded as by `Batch.collate`. Masks are
    drawn where all samples have them, unless `masks` is False."""
    plain = [{**plain_target(sample), "seed": torch.tensor(seed)} for sample, seed in zip(samples, seeds, strict=True)]
    images = [sample.image.as_subclass(Tensor) for sample in samples]
    batch = Batch.collate(images, plain, divisor, [sample.info for sample in samples], square=square)
    targets = batch.targets
    assert targets is not None
    if masks and all("polygons" in sample.target or "masks" in sample.target for sample in samples):
        # Straight into the padded batch: they are by far the largest part of it.
        targets.masks = torch.zeros(*targets.valid.shape, *batch.images.shape[-2:], dtype=torch.uint8)
        for sample, drawn in zip(samples, targets.masks, strict=True):
            draw_masks(sample.target, drawn)
    return batch
