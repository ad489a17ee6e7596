"""Masks rendered point by point: PointRend, implicit PointRend, and learning from labelled points."""
