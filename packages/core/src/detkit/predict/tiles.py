"""Prediction on large images tile by tile, and one answer from those of all tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from detkit.detector import Detector, evaluating
from detkit.ops.boxes import box_area, box_iou, upright_boxes
from detkit.ops.nms import batched_nms
from detkit.structures.batch import Batch
from detkit.structures.placed_masks import PlacedMasks
from detkit.structures.prediction import Prediction
from detkit.tiling import Tiling, Window
from detkit.tta import Augmentation

_BORDER = 2.0  # pixels; a box that ends so near the border of its tile may be that of a part of an object
_COVERED = 0.5  # the share of such a box that lies in a box of another tile, from which on it is a part of that one
_JOINED = {"boxes", "scores", "labels", "masks", "keypoints"}


def predict_tiles(
    model: Detector,
    image: Tensor,
    tiling: Tiling,
    *,
    batch_size: int = 1,
    score_threshold: float = -math.inf,
    tta: Augmentation | None = None,
) -> Prediction:
    """The prediction for an original image (3, H, W) uint8 RGB from its tiles, each of which is resized as the model's
    input asks.

    In each class, boxes are suppressed that overlap a better one by more than `tiling.nms_iou`; those that end where
    their tile does, and the image does not, rank behind all others, and go, too, if most of such a box lies inside a
    better one of another tile. So an object that a tile sees whole is found once. One that no tile sees whole may be
    found in parts.

    Args:
        model: it runs where it is.
        image: it may be elsewhere: only tiles go to the model's device.
        tiling: an image that is one tile is answered as without tiles.
        batch_size: tiles that run together.
        score_threshold: instances below are left out.
        tta: several views of each tile.

    Returns:
        on the CPU; `masks` are `PlacedMasks`, which are large nowhere but around the objects.

    Raises:
        ValueError: the model answers what cannot be joined, such as labels of pixels.
    """
    height, width = image.shape[1:]
    windows = tiling.windows(height, width)
    parts: list[Prediction] = []
    for start in range(0, len(windows), batch_size):
        chunk = windows[start : start + batch_size]
        tiles = [image[:, top:bottom, left:right] for left, top, right, bottom in chunk]
        for window, found in zip(chunk, _answers(model, tiles, score_threshold, tta), strict=True):
            parts.append(_placed(found.to("cpu"), window, (height, width)))
    return parts[0] if len(parts) == 1 else join(parts, windows, tiling.nms_iou)


def _answers(
    model: Detector, tiles: Sequence[Tensor], score_threshold: float, tta: Augmentation | None
) -> list[Prediction]:
    with evaluating(model), torch.no_grad():
        if tta is not None:
            return [model.predict_views(tile.to(model.device), tta, score_threshold=score_threshold) for tile in tiles]
        resized = [
            F.resize(tile, list(model.input.resized(*tile.shape[1:])), antialias=model.input.antialias)
            for tile in tiles
        ]
        info = [{"original_size": tuple(tile.shape[1:])} for tile in tiles]
        batch = Batch.collate(resized, divisor=model.divisor, info=info, square=model.input.square)
        return model.predictions(batch.to(model.device), score_threshold=score_threshold)


def _placed(found: Prediction, window: Window, image_size: tuple[int, int]) -> Prediction:
    """The prediction for a tile in the pixels of its image."""
    if strangers := [name for name in found if name not in _JOINED]:
        raise ValueError(
            f"the model answers {', '.join(strangers)}, which cannot be joined from tiles; predict on the whole image"
        )
    left, top = window[:2]
    placed = Prediction(image_size, **{name: getattr(found, name) for name in found})
    shift = [left, top, left, top] if found.boxes.shape[1] == 4 else [left, top, 0, 0, 0]
    placed.set("boxes", found.boxes + found.boxes.new_tensor(shift))
    if "masks" in found:
        placed.set("masks", PlacedMasks.of(found.masks).shifted(left, top, image_size))
    if "keypoints" in found:
        placed.set("keypoints", found.keypoints + found.keypoints.new_tensor([left, top, 0]))
    return placed


def join(parts: Sequence[Prediction], windows: Sequence[Window], nms_iou: float) -> Prediction:
    """One prediction of those for the tiles of an image, all in the image's pixels; see `predict_tiles`."""
    image_size = parts[0].image_size
    fields: dict[str, Any] = {
        name: torch.cat([getattr(part, name) for part in parts]) for name in parts[0] if name != "masks"
    }
    if "masks" in parts[0]:
        fields["masks"] = PlacedMasks.cat([part.masks for part in parts])
    joined = Prediction(image_size, **fields)
    cut = torch.cat([_cut(part.boxes, window, image_size) for part, window in zip(parts, windows, strict=True)])
    tile = torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part) for part in parts]))
    # Of two that are cut, the one that shows more of the object, unless it is much less sure.
    order = torch.where(cut, joined.scores * box_area(joined.boxes), joined.scores).argsort(
        descending=True, stable=True
    )
    order = order[cut[order].to(torch.uint8).argsort(stable=True)]
    boxes, cut, tile = joined.boxes[order], cut[order], tile[order]
    labels = joined.labels[order] if "labels" in joined else torch.zeros_like(order)
    rank = torch.arange(len(order), 0, -1).float()
    keep = batched_nms(boxes[None], rank[None], labels[None], torch.ones(1, len(order), dtype=torch.bool), nms_iou)[0]
    kept = keep.nonzero()[:, 0]
    kept = kept[~_part_of_another(boxes[kept], labels[kept], cut[kept], tile[kept], windows)]
    best_first = joined.scores[order[kept]].argsort(descending=True, stable=True)
    return joined.select(order[kept[best_first]])


def _cut(boxes: Tensor, window: Window, image_size: tuple[int, int]) -> Tensor:
    """Which boxes (N,) end at a border of their tile that is none of the image."""
    left, top, right, bottom = window
    bounds = upright_boxes(boxes)
    inner = torch.tensor([left > 0, top > 0, right < image_size[1], bottom < image_size[0]])
    near = torch.cat(
        [
            bounds[:, :2] <= bounds.new_tensor([left + _BORDER, top + _BORDER]),
            bounds[:, 2:] >= bounds.new_tensor([right - _BORDER, bottom - _BORDER]),
        ],
        dim=1,
    )
    return (near & inner).any(dim=1)


def _part_of_another(boxes: Tensor, labels: Tensor, cut: Tensor, tile: Tensor, windows: Sequence[Window]) -> Tensor:
    """Which boxes (N,), best first, are cut and lie mostly inside a better one of their class that another tile
    found."""
    found = torch.zeros_like(cut)
    bounds, areas, places = upright_boxes(boxes), box_area(boxes), torch.arange(len(boxes))
    for number in tile[cut].unique().tolist():
        left, top, right, bottom = windows[number]
        near = (bounds[:, 0] < right) & (bounds[:, 2] > left) & (bounds[:, 1] < bottom) & (bounds[:, 3] > top)
        own, others = (cut & (tile == number)).nonzero()[:, 0], (near & (tile != number)).nonzero()[:, 0]
        iou = box_iou(boxes[own], boxes[others])
        shared = iou * (areas[own, None] + areas[others]) / (1 + iou)
        better = (labels[own, None] == labels[others]) & (places[own, None] > places[others])
        found[own] = (better & (shared > _COVERED * areas[own, None])).any(dim=1)
    return found
