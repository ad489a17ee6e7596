"""Regions of an image that belong together: panoptic segments, or all pixels of one class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from detkit.drawing.masks import outline
from detkit.drawing.palette import colour
from detkit.structures.batch import UNLABELLED
from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction

_COARSE = 64  # cells along the longer side of the grid on which the middle of a region is looked for


@dataclass(frozen=True)
class Region:
    """A `mask` (H, W) bool with a colour, a name and, for a thing that was predicted, its score."""

    mask: np.ndarray
    colour: tuple[int, int, int]
    name: str
    score: str = ""


def regions(prediction: Prediction, categories: Categories, semantic_categories: Categories) -> Iterator[Region]:
    """The segments of a prediction, else the classes of its pixels; without class 0, things, where there are instances
    to be drawn by themselves."""
    first_colour = len(categories)  # of pixels, so that classes of both kinds differ
    if "panoptic" in prediction:
        panoptic = prediction.panoptic.numpy(force=True)
        for segment in prediction.segments:
            label, mask = segment["label"], panoptic == segment["id"]
            if segment["isthing"]:
                yield Region(mask, colour(label), categories.names[label], f"{segment['score']:.2f}")
            else:
                yield Region(mask, colour(first_colour + label), semantic_categories.names[label])
    elif "semantic" in prediction:
        semantic = prediction.semantic.numpy(force=True)
        for label in np.unique(semantic).tolist():
            if label != UNLABELLED and not (label == 0 and "boxes" in prediction):
                yield Region(semantic == label, colour(first_colour + label), semantic_categories.names[label])


def middle(mask: np.ndarray) -> tuple[float, float]:
    """x, y of a pixel of a mask (H, W) that is not empty, about as far from its border as one can be."""
    step = max(1, max(mask.shape) // _COARSE)
    inner = mask[step // 2 :: step, step // 2 :: step]
    if not inner.any():
        step, inner = 1, mask
    while True:
        eroded = inner & ~outline(inner, 1)
        if not eroded.any():
            y, x = np.argwhere(inner)[0].tolist()
            return x * step + step // 2 + 0.5, y * step + step // 2 + 0.5
        inner = eroded
