"""Cutting out a part of the image. What of an instance lies outside is cut off after the last transform."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from detkit.data.targets import select
from detkit.data.transforms.draws import check_grey, check_range, integer, number, one_of
from detkit.data.transforms.moving import cropped, padded
from detkit.interfaces import Transform
from detkit.ops.boxes import box_iou, upright_boxes
from detkit.structures.batch import UNLABELLED
from detkit.structures.sample import Sample

_TRIES = 10  # of a crop that is to show more than one class, as in Detectron2


class RandomCrop(Transform):
    """Cut out a rectangle of random place, and perhaps of random size.

    Args:
        crop_size: two numbers that `crop_type` explains.
        crop_type: "relative": height and width as shares of the image's; "relative_range": the smallest shares, each
            side drawn from there to 1; "absolute": height and width in pixels; "absolute_range": smallest and largest
            length in pixels of either side. Nothing is larger than the image.
        contain_instance: the centre of an instance, drawn at random, is in the crop, if the image has any.
        single_category_max_area: at most this share of the labelled pixels of the crop is of one class, and it has two
            classes or more; of ten crops the first that is so, else the last. 1 takes any. It needs labels of pixels.
    """

    def __init__(
        self,
        crop_size: tuple[float, float] = (0.9, 0.9),
        crop_type: Literal["relative", "relative_range", "absolute", "absolute_range"] = "relative_range",
        contain_instance: bool = False,
        single_category_max_area: float = 1.0,
    ) -> None:
        first, second = crop_size
        if crop_type not in ("relative", "relative_range", "absolute", "absolute_range"):
            raise ValueError(
                f"crop_type is {crop_type!r}; it must be 'relative', 'relative_range', 'absolute' or 'absolute_range'"
            )
        if crop_type.startswith("relative") and not (0 < first <= 1 and 0 < second <= 1):
            raise ValueError(f"crop_size {crop_size} of type {crop_type!r}: shares above 0 and up to 1 are needed")
        if crop_type.startswith("absolute") and (first < 1 or second < 1):
            raise ValueError(f"crop_size {crop_size} of type {crop_type!r}: pixels, at least 1, are needed")
        if crop_type == "absolute_range" and first > second:
            raise ValueError(f"crop_size {crop_size} of type {crop_type!r}: the smallest must come first")
        if not 0 < single_category_max_area <= 1:
            raise ValueError(f"single_category_max_area is {single_category_max_area}; a share above 0 is needed")
        self.crop_size = (first, second)
        self.crop_type = crop_type
        self.contain_instance = contain_instance
        self.single_category_max_area = single_category_max_area

    def __call__(self, sample: Sample) -> Sample:
        size = tuple(sample.image.shape[-2:])
        centre = _centre(sample) if self.contain_instance else None
        for _ in range(_TRIES if self.single_category_max_area < 1 else 1):
            crop = self._draw(*size)
            top, left = (
                _place(side, length, None if centre is None else centre[axis])
                for axis, (side, length) in enumerate(zip(size, crop, strict=True))
            )
            if self.single_category_max_area == 1 or self._mixed(sample, top, left, *crop):
                break
        return cropped(sample, top, left, *crop)

    def _draw(self, height: int, width: int) -> tuple[int, int]:
        first, second = self.crop_size
        if self.crop_type == "absolute_range":
            return _length(height, first, second), _length(width, first, second)
        if self.crop_type == "absolute":
            return min(int(first), height), min(int(second), width)
        if self.crop_type == "relative_range":
            draws = torch.rand(2).tolist()
            first, second = first + draws[0] * (1 - first), second + draws[1] * (1 - second)
        return max(1, int(height * first + 0.5)), max(1, int(width * second + 0.5))

    def _mixed(self, sample: Sample, top: int, left: int, height: int, width: int) -> bool:
        """Whether a part shows several classes of pixels, none of them too much."""
        if "semantic" not in sample.target:
            raise ValueError("random_crop with single_category_max_area needs labels of pixels; this dataset has none")
        labels = sample.target["semantic"].as_subclass(Tensor)[top : top + height, left : left + width]
        counts = torch.bincount(labels.flatten(), minlength=UNLABELLED + 1)[:UNLABELLED]
        return int((counts > 0).sum()) > 1 and int(counts.max()) < self.single_category_max_area * int(counts.sum())


class FixedSizeCrop(Transform):
    """Cut out a part of random place where the image is larger than `crop_size`, and pad it at the right and the bottom
    where it is smaller. (Detectron2 draws one number for both directions, so that its crops lie on a diagonal; here
    they are independent.)

    Args:
        crop_size: height and width in pixels.
        pad: whether what is smaller is padded; else it stays smaller.
        pad_value: grey value of the padding. Padding has no class.
    """

    def __init__(self, crop_size: tuple[int, int], pad: bool = True, pad_value: int = 128) -> None:
        check_grey("pad_value", pad_value)
        if min(crop_size) < 1:
            raise ValueError(f"crop_size is {crop_size}; height and width in pixels, at least 1, are needed")
        self.crop_size = crop_size
        self.pad = pad
        self.pad_value = pad_value

    def __call__(self, sample: Sample) -> Sample:
        height, width = sample.image.shape[-2:]
        crop_height, crop_width = min(height, self.crop_size[0]), min(width, self.crop_size[1])
        sample = cropped(sample, _place(height, crop_height), _place(width, crop_width), crop_height, crop_width)
        if not self.pad:
            return sample
        return padded(sample, 0, 0, self.crop_size[1] - crop_width, self.crop_size[0] - crop_height, self.pad_value)


class PadToSquare(Transform):
    """Pad at the right and the bottom to a square.

    Args:
        pad_value: grey value of the padding. Padding has no class.
    """

    def __init__(self, pad_value: int = 0) -> None:
        check_grey("pad_value", pad_value)
        self.pad_value = pad_value

    def __call__(self, sample: Sample) -> Sample:
        height, width = sample.image.shape[-2:]
        side = max(height, width)
        return padded(sample, 0, 0, side - width, side - height, self.pad_value)


class RandomInstanceCrop(Transform):
    """Cut out the surroundings of an instance drawn at random; images without any stay whole.

    Args:
        crop_scale: the smallest and the largest size of the crop, as shares of the size of the instance's box.
    """

    def __init__(self, crop_scale: tuple[float, float] = (0.8, 1.6)) -> None:
        check_range("crop_scale", crop_scale, 0)
        self.crop_scale = crop_scale

    def __call__(self, sample: Sample) -> Sample:
        boxes = upright_boxes(sample.target["boxes"].as_subclass(Tensor))
        if not len(boxes):
            return sample
        height, width = sample.image.shape[-2:]
        x1, y1, x2, y2 = one_of(boxes.tolist())
        grow = (number(*self.crop_scale) - 1) / 2
        left, right = _span(x1 - grow * (x2 - x1), x2 + grow * (x2 - x1), width)
        top, bottom = _span(y1 - grow * (y2 - y1), y2 + grow * (y2 - y1), height)
        return cropped(sample, top, left, bottom - top, right - left)


class MinIoURandomCrop(Transform):
    """Cut out a part that overlaps all boxes, after SSD (Liu et al. 2016, https://arxiv.org/abs/1512.02325).

    A least overlap is drawn, or none, or that the image stays whole. Of the parts with sides of at least
    `min_crop_size` of the image's, and at most twice as long as wide or the reverse, one is taken that overlaps every
    box at least so much (IoU) and has the centre of one inside. If there is none after `crop_trials` parts, another
    overlap is drawn.

    Args:
        min_ious: the overlaps to draw from.
        min_crop_size: the smallest part, as a share of each side of the image.
        mode_trials: overlaps that are drawn before the image stays whole.
        crop_trials: parts that are drawn for each overlap.
        only_centers: leave out instances whose centre is outside, as SSD does; Detectron2 keeps what is left of them.
    """

    def __init__(
        self,
        min_ious: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        mode_trials: int = 1000,
        crop_trials: int = 50,
        only_centers: bool = False,
    ) -> None:
        if not all(0 <= iou <= 1 for iou in min_ious) or not 0 < min_crop_size <= 1:
            raise ValueError(f"min_ious {list(min_ious)}, min_crop_size {min_crop_size}: shares up to 1 are needed")
        if mode_trials < 1 or crop_trials < 1:
            raise ValueError(f"mode_trials {mode_trials}, crop_trials {crop_trials}: at least 1 is needed")
        self.min_ious = tuple(min_ious)
        self.min_crop_size = min_crop_size
        self.mode_trials = mode_trials
        self.crop_trials = crop_trials
        self.only_centers = only_centers

    def __call__(self, sample: Sample) -> Sample:
        boxes = upright_boxes(sample.target["boxes"].as_subclass(Tensor))
        for _ in range(self.mode_trials):
            iou = one_of((None, *self.min_ious, 0.0))
            if iou is None:
                break
            crop = self._find(boxes, iou, *sample.image.shape[-2:])
            if crop is None:
                continue
            left, top, right, bottom = crop.tolist()
            if self.only_centers:
                sample = select(sample, _centres_inside(crop[None], boxes)[0])
            return cropped(sample, top, left, bottom - top, right - left)
        return sample

    def _find(self, boxes: Tensor, iou: float, height: int, width: int) -> Tensor | None:
        """The first of many parts (4,) int64 that is as wanted."""
        limit = torch.tensor((width, height))
        draws = torch.rand(self.crop_trials, 4)
        sizes = limit * (self.min_crop_size + (1 - self.min_crop_size) * draws[:, :2])
        low = ((limit - sizes) * draws[:, 2:]).long()
        crops = torch.cat((low, (low + sizes).long()), dim=1)
        sides = (crops[:, 2:] - crops[:, :2]).float()
        shape = sides[:, 1] / sides[:, 0].clamp(min=1e-6)
        fits = (sides.amin(dim=1) >= 1) & (shape >= 0.5) & (shape <= 2)
        if len(boxes):
            fits &= box_iou(crops.float(), boxes).amin(dim=1) >= iou
            fits &= _centres_inside(crops, boxes).any(dim=1)
        return crops[int(fits.to(torch.uint8).argmax())] if bool(fits.any()) else None


def _centres_inside(crops: Tensor, boxes: Tensor) -> Tensor:
    """(C, N) bool: which boxes have their centre inside which crop."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres > crops[:, None, :2]) & (centres < crops[:, None, 2:])).all(dim=2)


def _centre(sample: Sample) -> tuple[float, float] | None:
    """y and x of the centre of an instance drawn at random; None if there is none."""
    boxes = upright_boxes(sample.target["boxes"].as_subclass(Tensor))
    if not len(boxes):
        return None
    x1, y1, x2, y2 = one_of(boxes.tolist())
    return (y1 + y2) / 2, (x1 + x2) / 2


def _place(side: int, crop: int, around: float | None = None) -> int:
    """Where a crop starts along a side, drawn at random; `around` is a place that it holds."""
    if around is None:
        return integer(0, side - crop)
    low = max(0, min(math.ceil(around) - crop, side - crop))
    return integer(low, max(low, min(math.floor(around), side - crop)))


def _length(side: int, low: float, high: float) -> int:
    """The length of a crop along a side, drawn at random from `low` to `high` but no more than there is."""
    return integer(min(int(low), side), min(int(high), side))


def _span(low: float, high: float, side: int) -> tuple[int, int]:
    """The whole pixels from `low` to `high` that are inside the image, at least one."""
    start = min(max(math.floor(low), 0), side - 1)
    return start, min(max(math.ceil(high), start + 1), side)
