"""Predictions drawn onto images: masks, boxes, names and scores. Needs Pillow and numpy only."""

from detkit.drawing.picture import draw

__all__ = ["draw"]
