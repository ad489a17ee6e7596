"""Semantic segmentation: its metrics."""
