"""Leaving out instances of which too little is left."""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.data.targets import cut_to_canvas, mask_areas, select, visible_shares
from detkit.data.transforms.draws import check_probability
from detkit.interfaces import Transform
from detkit.ops.boxes import box_sides
from detkit.structures.sample import Sample


class KeepVisible(Transform):
    """Cut everything at the border of the image and leave out instances of which too little is left. Without it, an
    instance stays as long as anything of it is inside. It belongs right behind the crop that it judges.

    Args:
        min_visible: the share of an instance's outline, else of its box, that is left; of bitmaps that of the box.
        min_size: the length of both sides of what is left of the box, in pixels.
        min_area: what is left of the mask, else of the box, in square pixels.
    """

    def __init__(self, min_visible: float = 0.0, min_size: float = 0.0, min_area: float = 0.0) -> None:
        check_probability("min_visible", min_visible)
        if min_size < 0 or min_area < 0:
            raise ValueError(f"min_size {min_size}, min_area {min_area}: 0 or more is needed")
        self.min_visible = min_visible
        self.min_size = min_size
        self.min_area = min_area

    def __call__(self, sample: Sample) -> Sample:
        if self.min_visible:
            sample = select(sample, visible_shares(sample) >= self.min_visible)
        sample = cut_to_canvas(sample)
        sides = torch.stack(box_sides(sample.target["boxes"].as_subclass(Tensor)))
        keep = (sides.amin(dim=0) >= self.min_size) & (mask_areas(sample.target) >= self.min_area)
        return select(sample, keep)
