"""Keypoints drawn as dots, connected as their skeleton says."""

from __future__ import annotations

import numpy as np
from PIL import ImageDraw

from detkit.drawing.palette import text_colour
from detkit.structures.keypoints import Keypoints

THRESHOLD = 0.05
"""Keypoints with a lower score are not drawn, nor what they are connected to (as in Detectron2)."""


def draw_keypoints(
    pen: ImageDraw.ImageDraw,
    points: np.ndarray,
    keypoints: Keypoints | None,
    colour: tuple[int, int, int],
    line: int,
) -> None:
    """Draw the keypoints of one instance.

    Args:
        pen: draws on the picture.
        points: (K, 3) x, y in pixels of the picture, and score; of ground truth the visibility, 0 not labelled.
        keypoints: what they are called and how they are connected, if that is known.
        colour: RGB, of lines and dots.
        line: width in pixels; dots have four times that.
    """
    places = [(float(x), float(y)) for x, y, _ in points]
    drawn = points[:, 2] >= THRESHOLD
    for start, end in keypoints.skeleton if keypoints is not None else ():
        if drawn[start] and drawn[end]:
            pen.line((places[start], places[end]), fill=colour, width=line)
    rim = text_colour(colour)
    for x, y in (place for place, wanted in zip(places, drawn, strict=True) if wanted):
        pen.ellipse((x - 2 * line, y - 2 * line, x + 2 * line, y + 2 * line), fill=colour, outline=rim)
