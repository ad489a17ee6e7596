"""detkit: object detection and segmentation from installable parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pathlib import Path

    from detkit.analysis import Analysis
    from detkit.detector import Detector
    from detkit.engine.run import Run


def load(source: Any, **options: Any) -> Detector:
    """Load a model: a model directory, a run, or a recipe's name. See `detkit.model_directory.load`."""
    from detkit.model_directory import load as load_model  # brings torch, which `detkit --help` must not

    return load_model(source, **options)


def train(source: Any, out: str | Path, *, changes: Sequence[str] = (), **options: Any) -> Run:
    """Train what a recipe or a config file says, into the run directory `out`.

        detkit.train("mask-rcnn-r50-fpn-1x", "runs/first", data="path/to/data", changes=["train.epochs=12"])

    Args:
        source: a recipe's name, a YAML file, or a mapping.
        out: the run directory.
        changes: as on the command line.
        options: `data`, a path or Python data; `categories`, `resume`, `init`, `extend`: see
            `detkit.engine.train.train`.
    """
    from pathlib import Path

    from detkit.config import Config
    from detkit.engine.train import train as train_config

    return train_config(Config.load(source, changes), Path(out), **options)


def analyze(source: Any, **options: Any) -> Analysis:
    """What a model costs, part by part: parameters, operations, activations. See `detkit.analysis.analyze`."""
    from detkit.analysis import analyze as analyze_model

    return analyze_model(source, **options)
