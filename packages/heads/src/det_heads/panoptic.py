"""From instances and a semantic map to panoptic segments: one for every pixel, none overlapping another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

THINGS = 0
"""The class of pixels that stands for all instances."""


@dataclass(frozen=True)
class PanopticMerging:
    """How instances and pixels become segments (Kirillov et al., Panoptic Segmentation, 2019).

    Instances are placed from the highest score down, each where no earlier one lies; one that is hidden too much is
    left out. What then is free goes to the classes of pixels, but for class 0, which stands for things.

    Args:
        overlap: an instance of which a greater share than this is hidden is left out.
        stuff_area: a class that covers fewer pixels than this is left out.
        score: instances below are left out.
    """

    overlap: float = 0.5
    stuff_area: int = 4096
    score: float = 0.5

    def __call__(self, scores: Tensor, labels: Tensor, masks: Tensor, semantic: Tensor) -> dict[str, Any]:
        """The fields `panoptic` and `segments` of a Prediction.

        Things get the ids 1, 2, ... in the order of their scores, stuff the next ones in the order of their labels.

        Args:
            scores: (N,), of the instances.
            labels: (N,) likewise.
            masks: (N, H, W) bool likewise.
            semantic: (H, W) int64 labels of pixels.
        """
        order = scores.argsort(descending=True, stable=True)
        order = order[scores[order] >= self.score]
        things = self._place(masks[order])
        thing_areas = things.flatten().bincount(minlength=len(order) + 1)
        stuff = torch.where(things == 0, semantic, THINGS)
        stuff_areas = stuff.flatten().bincount(minlength=1)

        is_thing = thing_areas > 0
        is_stuff = stuff_areas >= max(1, self.stuff_area)
        is_thing[0] = is_stuff[THINGS] = False
        thing_ids = is_thing.cumsum(0) * is_thing
        stuff_ids = (is_stuff.cumsum(0) + is_thing.sum()) * is_stuff
        panoptic = (thing_ids[things] + stuff_ids[stuff]).to(torch.int32)
        placed = order[is_thing[1:]]
        segments = [
            {"isthing": True, "label": label, "score": score, "area": area}
            for label, score, area in zip(
                labels[placed].tolist(), scores[placed].tolist(), thing_areas[is_thing].tolist(), strict=True
            )
        ] + [
            {"isthing": False, "label": label, "area": area}
            for label, area in zip(is_stuff.nonzero().flatten().tolist(), stuff_areas[is_stuff].tolist(), strict=True)
        ]
        return {
            "panoptic": panoptic,
            "segments": [{"id": number, **segment} for number, segment in enumerate(segments, start=1)],
        }

    def _place(self, masks: Tensor) -> Tensor:
        """(H, W) int64: 1 + the position of the mask (N, H, W) that a pixel belongs to, 0 where there is none. Nothing
        is read on the host between the masks, and no mask is looked at outside its window."""
        placed = torch.zeros(masks.shape[1:], dtype=torch.int64, device=masks.device)
        for number, (window, mask) in enumerate(zip(_windows(masks), masks, strict=True), start=1):
            part, mask = placed[window], mask[window]
            visible = mask & (part == 0)
            area = mask.sum()
            hidden = (area - visible.sum()) / area
            part.masked_fill_(visible & (hidden <= self.overlap), number)
        return placed


def _windows(masks: Tensor) -> list[tuple[slice, slice]]:
    """The rows and columns that hold each mask (N, H, W)."""
    bounds = []
    pixels = masks.view(torch.uint8)  # whose maximum is twenty times as fast on a CPU as `any` of booleans
    for used in (pixels.amax(dim=2) > 0, pixels.amax(dim=1) > 0):  # rows, columns
        length = used.shape[1]
        place = torch.arange(length, device=masks.device)
        bounds += [torch.where(used, place, length).amin(dim=1), torch.where(used, place + 1, 0).amax(dim=1)]
    return [(slice(y0, y1), slice(x0, x1)) for y0, y1, x0, x1 in torch.stack(bounds, dim=1).tolist()]
