"""Panoptic data: every pixel belongs to one segment, a thing or stuff."""
