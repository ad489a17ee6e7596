"""Backbones and necks for detkit."""
