"""detkit: object detection and segmentation from installable parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from detkit.analysis import Analysis
    from detkit.detector import Detector


def load(source: Any, **options: Any) -> Detector:
    """Load a model: a model directory, a run, or a recipe's name. See `detkit.model_directory.load`."""
    from detkit.model_directory import load as load_model  # brings torch, which `detkit --help` must not

    return load_model(source, **options)


def analyze(source: Any, **options: Any) -> Analysis:
    """What a model costs, part by part: parameters, operations, activations. See `detkit.analysis.analyze`."""
    from detkit.analysis import analyze as analyze_model

    return analyze_model(source, **options)
