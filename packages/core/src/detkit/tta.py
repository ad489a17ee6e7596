"""Test-time augmentation: one image at several sizes and mirrored, and one answer from all of these views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from detkit.ops.boxes import mirror_boxes, scale_boxes
from detkit.ops.nms import batched_nms
from detkit.structures.batch import Batch
from detkit.structures.input_spec import InputSpec


@dataclass(frozen=True)
class Augmentation:
    """Which views of an image a model sees.

    Args:
        scales: of the size that the model's input asks for. Detectron2's grid of shortest edges, 400 to 1200 in steps
            of 100 for a model of 800, is 0.5 to 1.5 in steps of 0.125.
        flip: whether every view is also seen mirrored, left to right.

    Raises:
        ValueError: no scale, or one that is not above 0.
    """

    scales: Sequence[float] = (0.75, 1.0, 1.25)
    flip: bool = True

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales is {list(self.scales)}; at least one number above 0 is needed")

    def views(self, image: Tensor, input: InputSpec, divisor: int) -> list[View]:
        """The views of an image (3, H, W) uint8 RGB, on its device."""
        size = (image.shape[1], image.shape[2])
        found = []
        for scale in self.scales:
            resized = F.resize(image, _scaled(size, input, scale), antialias=input.antialias)
            for flipped in (False, True) if self.flip else (False,):
                seen = resized.flip(2) if flipped else resized
                batch = Batch.collate([seen], divisor=divisor, square=input.square)
                found.append(View(batch.images, batch.sizes, size, flipped))
        return found


def _scaled(size: tuple[int, int], input: InputSpec, scale: float) -> list[int]:
    if input.min_size == 0:
        return [max(1, round(side * scale)) for side in size]
    shortest, longest = max(1, round(input.min_size * scale)), max(1, round(input.max_size * scale))
    return list(replace(input, min_size=shortest, max_size=longest).resized(*size))


@dataclass(frozen=True)
class View:
    """One view: a padded image (1, 3, h, w) uint8 RGB with its size (1, 2), of an image of `original_size`."""

    images: Tensor
    sizes: Tensor
    original_size: tuple[int, int]
    flipped: bool

    def to_original(self, boxes: Tensor) -> Tensor:
        """Boxes (..., 4 or 5) of the view in pixels of the original image."""
        scale_y, scale_x = self._scale(boxes)
        return scale_boxes(self._mirrored(boxes), 1 / scale_x, 1 / scale_y)

    def from_original(self, boxes: Tensor) -> Tensor:
        """The inverse of `to_original`."""
        scale_y, scale_x = self._scale(boxes)
        return self._mirrored(scale_boxes(boxes, scale_x, scale_y))

    def _scale(self, boxes: Tensor) -> Tensor:
        return self.sizes[0].to(boxes.dtype) / boxes.new_tensor(self.original_size)

    def _mirrored(self, boxes: Tensor) -> Tensor:
        return mirror_boxes(boxes, self.sizes[0, 1]) if self.flipped else boxes


def merge_boxes(
    answers: Sequence[Mapping[str, Tensor]], views: Sequence[View], *, nms_iou: float, capacity: int
) -> dict[str, Tensor]:
    """boxes (1, D, 4 or 5) in pixels of the original image, scores, labels and valid (1, D), from those that `detect`
    gave for each view: non-maximum suppression within each class over all of them, then the best `capacity`."""
    boxes = torch.cat([view.to_original(answer["boxes"]) for answer, view in zip(answers, views, strict=True)], dim=1)
    scores, valid = (torch.cat([answer[name] for answer in answers], dim=1) for name in ("scores", "valid"))
    labels = (
        torch.cat([answer["labels"] for answer in answers], dim=1)
        if "labels" in answers[0]
        else torch.zeros_like(valid, dtype=torch.int64)
    )
    keep = batched_nms(boxes, scores, labels, valid, nms_iou)
    best = torch.where(keep, scores, -torch.inf).topk(min(capacity, keep.shape[1]), dim=1)
    return {
        "boxes": boxes.gather(1, best.indices[..., None].expand(-1, -1, boxes.shape[-1])),
        "scores": torch.where(best.values.isfinite(), best.values, 0.0),
        "labels": labels.gather(1, best.indices),
        "valid": keep.gather(1, best.indices),
    }
