"""Cityscapes: streets seen from a car, every pixel labelled."""
