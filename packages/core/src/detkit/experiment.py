"""The top level of a config: what is trained, on what, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from detkit.detector import Detector
from detkit.engine.options import Train
from detkit.interfaces import Evaluator, Transform


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A config, from top to bottom.

    Args:
        model: what is trained.
        data: the dataset: a folder with images and annotations, or a YAML file that names its splits.
        transforms: augmentation of training images, in this order. Evaluation only resizes, as `model.input` says.
        evaluators: what is measured on the validation images.
        train: how it is trained.
        init: a model or pretrained weights to start from; null starts from random weights.
        about: of a recipe: summary, task, paper, licence, `published` metrics, `published by`, `model id`. Through
            `base` all is inherited but the summary and what was published.
        requires: distributions that this config needs, as in "det-heads>=0.1".
        version: of this layout.
    """

    model: Detector
    data: str | None = None
    transforms: Sequence[Transform] = ()
    evaluators: Sequence[Evaluator] = ()
    train: Train
    init: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    requires: Sequence[str] = ()
    version: Literal[1] = 1
