"""Mirroring."""

from __future__ import annotations

from dataclasses import replace

from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from detkit.data.transforms.draws import chance, check_probability
from detkit.data.transforms.moving import moved
from detkit.interfaces import Transform
from detkit.structures.sample import Sample


class Flip(Transform):
    """Mirror left and right, upside down, or both, each by chance.

    Args:
        horizontal: probability of exchanging left and right.
        vertical: probability of exchanging top and bottom.
    """

    def __init__(self, horizontal: float = 0.5, vertical: float = 0.0) -> None:
        check_probability("horizontal", horizontal)
        check_probability("vertical", vertical)
        self.horizontal = horizontal
        self.vertical = vertical

    def __call__(self, sample: Sample) -> Sample:
        if chance(self.horizontal):
            sample = moved(sample, F.horizontal_flip)
        if chance(self.vertical):
            sample = _as_mirrored(moved(sample, F.vertical_flip))
        return sample


def _as_mirrored(sample: Sample) -> Sample:
    """Rotated boxes after torchvision has turned them upside down: it mirrors angles and adds half a turn, after which
    a box is the same but not the same target."""
    boxes = sample.target.get("boxes")
    if boxes is None or boxes.shape[-1] != 5:
        return sample
    half_turn = boxes.new_tensor([0.0, 0.0, 0.0, 0.0, 180.0])
    return replace(sample, target={**sample.target, "boxes": tv_tensors.wrap(boxes - half_turn, like=boxes)})
