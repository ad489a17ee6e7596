"""Putting several samples into one. Their partners come from the dataset, through the transforms before these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from detkit.data.targets import boxes_of_masks, cut_to_canvas, draw_masks, select
from detkit.data.transforms.draws import chance, check_grey, check_probability, check_range, integer, number
from detkit.data.transforms.moving import cropped, moved_target, padded, resized
from detkit.interfaces import MixingTransform, Transform
from detkit.structures.instance_points import InstancePoints
from detkit.structures.polygons import Polygons
from detkit.structures.proposal_boxes import ProposalBoxes
from detkit.structures.sample import Sample
from detkit.structures.semantic_map import SemanticMap


def apply_chain(transforms: Sequence[Transform], sample: Sample, another: Callable[[], Sample]) -> Sample:
    """The sample after all transforms. `another` draws a sample of the dataset at random, as a partner for those that
    mix; it passes through the transforms before these, with draws of its own."""
    for place, transform in enumerate(transforms):
        if isinstance(transform, MixingTransform):
            before = transforms[:place]
            partners = [apply_chain(before, another(), another) for _ in range(transform.draw_partners())]
            sample = transform.mix(sample, partners) if partners else sample
        else:
            sample = transform(sample)
    return sample


class Mosaic(MixingTransform):
    """Four images around a random centre, as YOLOv4 (Bochkovskiy et al. 2020, https://arxiv.org/abs/2004.10934) has
    them: each is resized, its aspect ratio kept, to fit a square of `size`, and fills a quarter of a canvas of twice
    this, as far as it goes. `random_affine` with a `size` usually follows.

    Args:
        size: of each image's longer side, in pixels; height and width that come out are twice this.
        center_range: where the four meet, the smallest and the largest x and y, in units of `size`.
        fill: grey value of what no image covers.
        p: the probability of a mosaic; other samples stay as they are.
    """

    def __init__(
        self, size: int = 640, center_range: tuple[float, float] = (0.5, 1.5), fill: int = 114, p: float = 1.0
    ) -> None:
        check_probability("p", p)
        check_range("center_range", center_range, 0, 2)
        check_grey("fill", fill)
        if size < 2:
            raise ValueError(f"size is {size}; pixels, at least 2, are needed")
        self.size = size
        self.center_range = center_range
        self.fill = fill
        self.p = p

    def draw_partners(self) -> int:
        return 3 if chance(self.p) else 0

    def mix(self, sample: Sample, partners: Sequence[Sample]) -> Sample:
        side = 2 * self.size
        x, y = (min(max(round(self.size * number(*self.center_range)), 1), side - 1) for _ in range(2))
        image = torch.full((side, side, 3), self.fill, dtype=torch.uint8).permute(2, 0, 1)
        targets = []
        for tile, (right, below) in zip((sample, *partners), ((0, 0), (1, 0), (0, 1), (1, 1)), strict=True):
            height, width = tile.image.shape[-2:]
            ratio = self.size / max(height, width)
            height, width = max(1, round(height * ratio)), max(1, round(width * ratio))
            shown_height, shown_width = min(height, side - y if below else y), min(width, side - x if right else x)
            # What lies at the centre of the canvas is shown.
            top, left = 0 if below else height - shown_height, 0 if right else width - shown_width
            tile = cropped(resized(cut_to_canvas(tile), height, width), top, left, shown_height, shown_width)
            tile = cut_to_canvas(tile)
            top, left = y if below else y - shown_height, x if right else x - shown_width
            image[:, top : top + shown_height, left : left + shown_width] = tile.image
            sides = [left, top, side - left - shown_width, side - top - shown_height]
            targets.append(moved_target(tile.target, F.pad, sides))
        return replace(sample, image=tv_tensors.Image(image), target=joined(targets, (side, side)))


class MixUp(MixingTransform):
    """Two images blended, with the instances of both, as Zhang et al. 2019 (https://arxiv.org/abs/1902.04103) do for
    detection: the canvas is as large as both, what only one covers is dark. The weight of the first is drawn from a
    beta distribution; losses are not weighted by it. Pixels have the class of the image that weighs more.

    Args:
        alpha: both parameters of the beta distribution.
        p: the probability of a mixture.
    """

    def __init__(self, alpha: float = 1.5, p: float = 1.0) -> None:
        check_probability("p", p)
        if alpha <= 0:
            raise ValueError(f"alpha is {alpha}; a number above 0 is needed")
        self.alpha = alpha
        self.p = p

    def draw_partners(self) -> int:
        return 1 if chance(self.p) else 0

    def mix(self, sample: Sample, partners: Sequence[Sample]) -> Sample:
        weight = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        pair = (sample, *partners)
        height, width = (max(each.image.shape[axis] for each in pair) for axis in (-2, -1))
        blended = torch.full((height, width, 3), 0.5).permute(2, 0, 1)
        targets = []
        for each, share in zip(pair, (weight, 1 - weight), strict=True):
            own_height, own_width = each.image.shape[-2:]
            pixels = each.image.as_subclass(Tensor).float()
            blended[:, :own_height, :own_width].add_(pixels, alpha=share)
            sides = [0, 0, width - own_width, height - own_height]
            targets.append(moved_target(cut_to_canvas(each).target, F.pad, sides))
        target = joined(targets, (height, width))
        if "semantic" in target:
            over, under = (0, 1) if weight >= 0.5 else (1, 0)
            semantic = targets[under]["semantic"].as_subclass(Tensor).clone()
            labels = pair[over].target["semantic"].as_subclass(Tensor)
            semantic[: labels.shape[0], : labels.shape[1]] = labels
            target["semantic"] = SemanticMap(semantic)
        return replace(sample, image=tv_tensors.Image(blended.to(torch.uint8)), target=target)


class CopyPaste(MixingTransform):
    """Instances of another image pasted onto this one, cut out along their masks: Ghiasi et al. 2021,
    https://arxiv.org/abs/2012.07177. It belongs behind `large_scale_jitter`, which makes canvases of one size.

    A random number of instances with masks is pasted where they are in their own image. What they hide of others is no
    longer part of these: masks lose it, boxes become tight around what is left, keypoints under it count as hidden, and
    pixels have the class of what was pasted.

    Args:
        max_pasted: at most so many instances are pasted.
        min_visible: an instance of which a smaller share of the mask (of the box, if it has none) stays visible is left
            out.
        p: the probability of pasting anything.
    """

    def __init__(self, max_pasted: int = 100, min_visible: float = 0.1, p: float = 1.0) -> None:
        check_probability("p", p)
        check_probability("min_visible", min_visible)
        if max_pasted < 1:
            raise ValueError(f"max_pasted is {max_pasted}; at least 1 is needed")
        self.max_pasted = max_pasted
        self.min_visible = min_visible
        self.p = p

    def draw_partners(self) -> int:
        return 1 if chance(self.p) else 0

    def mix(self, sample: Sample, partners: Sequence[Sample]) -> Sample:
        for each in (sample, *partners):
            if "has_mask" not in each.target:
                raise ValueError("copy_paste cuts instances out along their masks; this dataset has none")
        height, width = size = (sample.image.shape[-2], sample.image.shape[-1])
        sample = cut_to_canvas(sample)
        (source,) = (_on_canvas(partner, height, width) for partner in partners)
        candidates = source.target["has_mask"].nonzero()[:, 0]
        if not len(candidates):
            return sample
        count = integer(1, min(self.max_pasted, len(candidates)))
        chosen = torch.zeros(len(source.target["labels"]), dtype=torch.bool)
        chosen[candidates[torch.randperm(len(candidates))[:count]]] = True
        source = select(source, chosen)
        pasted = _masks(source.target, size).amax(dim=0).bool()
        pixels = pasted.flatten().nonzero()[:, 0]
        image = sample.image.as_subclass(Tensor).permute(1, 2, 0).clone(memory_format=torch.contiguous_format)
        image.view(-1, 3)[pixels] = source.image.as_subclass(Tensor).permute(1, 2, 0).reshape(-1, 3)[pixels]
        targets = [_hidden(sample, pasted, self.min_visible), source.target]
        target = joined(targets, size)
        if "semantic" in target:
            own, other = (each.target["semantic"].as_subclass(Tensor) for each in (sample, source))
            target["semantic"] = SemanticMap(torch.where(pasted, other, own))
        return replace(sample, image=tv_tensors.Image(image.permute(2, 0, 1)), target=target)


def _on_canvas(sample: Sample, height: int, width: int) -> Sample:
    """The upper left part of a sample on a canvas of a size."""
    own_height, own_width = sample.image.shape[-2:]
    sample = cropped(sample, 0, 0, min(height, own_height), min(width, own_width))
    return cut_to_canvas(padded(sample, 0, 0, max(0, width - own_width), max(0, height - own_height)))


def _masks(target: Mapping[str, Any], size: tuple[int, int]) -> Tensor:
    """Masks (N, H, W) uint8 of all instances."""
    masks = torch.zeros(len(target["labels"]), *size, dtype=torch.uint8)
    draw_masks(dict(target), masks)
    return masks


def _hidden(sample: Sample, over: Tensor, min_visible: float) -> dict[str, Any]:
    """The target of a sample after pixels (H, W) bool are no longer seen."""
    size = (over.shape[0], over.shape[1])
    target = dict(sample.target)
    for key, value in target.items():
        if isinstance(value, InstancePoints):
            target[key] = value.covered(over)
    sample = replace(sample, target=target)
    region = boxes_of_masks(over[None])
    rows = _touching(target, region[0]).nonzero()[:, 0]
    if not len(rows):
        return target
    touched = torch.zeros(len(target["labels"]), dtype=torch.bool)
    touched[rows] = True
    part = select(sample, touched).target
    masks, boxed = _masks(part, size), ~part["has_mask"]
    if bool(boxed.any()) and part["boxes"].shape[-1] == 4:
        masks[boxed] = _filled(part["boxes"].as_subclass(Tensor)[boxed], size)
    areas = _counts(masks)
    left, top, right, bottom = region[0].int().tolist()
    masks[:, top:bottom, left:right] *= ~over[top:bottom, left:right]
    visible = _counts(masks)
    changed = (visible < areas) & ~boxed
    if bool(changed.any()):
        boxes = target["boxes"].as_subclass(Tensor).clone()
        if boxes.shape[1] == 4:
            boxes[rows[changed]] = boxes_of_masks(masks[changed])
        target["boxes"] = tv_tensors.wrap(boxes, like=target["boxes"])
        bitmaps = target["masks"].as_subclass(Tensor).clone() if "masks" in target else None
        bitmaps = torch.zeros(len(boxes), *size, dtype=torch.uint8) if bitmaps is None else bitmaps
        bitmaps[rows[changed]] = masks[changed]
        target["masks"] = tv_tensors.Mask(bitmaps)
        if "polygons" in target:
            outline_lost = torch.zeros_like(touched)
            outline_lost[rows[changed]] = True
            target["polygons"] = target["polygons"].without(outline_lost)
    keep = torch.ones_like(touched)
    keep[rows] = (visible >= min_visible * areas) & ((visible > 0) | (areas == 0))
    return select(replace(sample, target=target), keep).target


def _touching(target: Mapping[str, Any], region: Tensor) -> Tensor:
    """(N,) bool: which boxes overlap a box (4,); rotated ones are all taken."""
    boxes = target["boxes"].as_subclass(Tensor)
    if boxes.shape[1] == 5:
        return torch.ones(len(boxes), dtype=torch.bool)
    return ((boxes[:, :2] < region[2:]) & (boxes[:, 2:] > region[:2])).all(dim=1)


def _counts(masks: Tensor) -> Tensor:
    """(N,) int64 pixels of masks (N, H, W) uint8; NumPy counts them ten times as fast as torch adds."""
    return torch.tensor([np.count_nonzero(mask) for mask in masks.numpy()], dtype=torch.int64)


def _filled(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (N, H, W) uint8 of boxes (N, 4)."""
    x1, y1, x2, y2 = (side[:, None] for side in boxes.unbind(dim=1))
    x, y = torch.arange(size[1]) + 0.5, torch.arange(size[0]) + 0.5
    return (((y > y1) & (y < y2))[:, :, None] & ((x > x1) & (x < x2))[:, None]).to(torch.uint8)


def joined(targets: Sequence[dict[str, Any]], size: tuple[int, int]) -> dict[str, Any]:
    """The instances of several targets in one; all of them are of images of this size (height, width). Of pixels that
    several label, the lowest label counts.

    Raises:
        ValueError: they do not have the same entries.
    """
    counts = [len(target["labels"]) for target in targets]
    if any("masks" in target for target in targets):  # bitmaps are left out where there are none
        targets = [
            target if "masks" in target else {**target, "masks": tv_tensors.Mask(torch.zeros(count, *size).byte())}
            for target, count in zip(targets, counts, strict=True)
        ]
    for target in targets:
        if different := sorted(target.keys() ^ targets[0].keys()):
            raise ValueError(f"samples that are mixed must have the same annotations; some lack {', '.join(different)}")
    found = {key: _join([target[key] for target in targets], size) for key in targets[0]}
    if "proposals" in found:
        order = found["proposal_scores"].argsort(descending=True, stable=True)
        found["proposal_scores"] = found["proposal_scores"][order]
        found["proposals"] = ProposalBoxes(found["proposals"].as_subclass(Tensor)[order], canvas_size=size)
    return found


def _join(values: Sequence[Any], size: tuple[int, int]) -> Any:
    first = values[0]
    if isinstance(first, Polygons):
        return Polygons.cat(values, size)
    plain = [value.as_subclass(Tensor) for value in values]
    if isinstance(first, SemanticMap):
        return SemanticMap(torch.stack(plain).amin(dim=0))
    rows = torch.cat(plain)
    if isinstance(first, InstancePoints):
        return first.like_this(rows, canvas_size=size)
    if isinstance(first, ProposalBoxes):
        return ProposalBoxes(rows, canvas_size=size)
    if isinstance(first, tv_tensors.BoundingBoxes):
        return tv_tensors.wrap(rows, like=first, canvas_size=size)
    return tv_tensors.Mask(rows) if isinstance(first, tv_tensors.Mask) else rows
