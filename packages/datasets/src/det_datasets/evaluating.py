"""What evaluators have in common: what they ask of datasets and predictions, and how they show values."""

from __future__ import annotations

import logging
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.interfaces import Dataset
from detkit.structures.prediction import Prediction

log = logging.getLogger(__name__)

Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""Of `Evaluator.tables`: title, names of columns, rows."""


def coco_truth(dataset: Dataset, name: str) -> dict[str, Any]:
    """What the evaluator of this name compares with.

    Raises:
        ValueError: the dataset has no COCO-style ground truth.
    """
    truth = dataset.ground_truth()
    if not isinstance(truth, dict) or not {"images", "annotations", "categories"} <= truth.keys():
        raise ValueError(
            f"{type(dataset).__name__} has no COCO-style ground truth, which the evaluator {name!r} compares with; "
            "leave it out, or use the evaluator of this dataset's format"
        )
    return truth


def checked_id(info: Mapping[str, Any], images: Container[Any]) -> Any:
    """The id of a predicted image.

    Raises:
        ValueError: the dataset has no such image.
    """
    image_id = info["image_id"]
    if image_id not in images:
        raise ValueError(f"a prediction for image {image_id!r}, which the dataset does not have")
    return image_id


def checked_labels(prediction: Prediction, image_id: Any, classes: int) -> NDArray[np.int64]:
    """The labels (N,) of a prediction.

    Raises:
        ValueError: one is not that of a class of the dataset.
    """
    labels = prediction.labels.numpy(force=True).astype(np.int64)
    if len(labels) and labels.max() >= classes:
        raise ValueError(
            f"a prediction for image {image_id} has label {labels.max()}, but the dataset has {classes} categories; "
            "was the model trained on others?"
        )
    return labels


def warn_of_missing(images: int, predicted: int, consequence: str) -> None:
    """Say that some of the images have no prediction, and what comes of it."""
    if predicted < images:
        log.warning("%d of %d images have no prediction; %s", images - predicted, images, consequence)


def defined(value: float) -> float | None:
    """A value that is NaN where it is undefined, as metrics and files have it."""
    return None if math.isnan(value) else value


def percent(value: float | None) -> str:
    """A score as text; None and NaN are undefined."""
    return "n/a" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def undefined_table(reasons: Iterable[tuple[str, str]], what: str = "metric") -> list[Table]:
    """The table of what is undefined with the reasons, if anything is."""
    rows = list(reasons)
    return [("Undefined metrics", (what, "reason"), rows)] if rows else []
