"""Configs: trees of plain values that name components, checked against their constructors and built from them."""

from detkit.config.building import build
from detkit.config.config import Config
from detkit.config.problems import ConfigError, Problem

__all__ = ["Config", "ConfigError", "Problem", "build"]
