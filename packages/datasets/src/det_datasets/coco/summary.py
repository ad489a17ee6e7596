"""Metrics and tables from precision and recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from det_datasets.coco.matching import RECALLS, THRESHOLDS, Curves
from det_datasets.evaluating import Table, percent, undefined_table
from detkit.report.figures import Curve, Figure
from detkit.report.figures import Curves as Figures

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""Of boxes and masks, with COCO's limits and sizes."""
KEYPOINT_METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")

_HALF, _THREE_QUARTERS = (int(np.argmin(abs(THRESHOLDS - value))) for value in (0.5, 0.75))
SIZES = {
    "s": "that is small (below 32 x 32 pixels)",
    "m": "of medium size (32 x 32 to 96 x 96 pixels)",
    "l": "that is large",
}


def metrics(
    curves: Curves, areas: Sequence[str], limits: Sequence[int], *, keypoints: bool = False, label: int | None = None
) -> dict[str, float | None]:
    """Metric -> value, None where it is undefined.

    Args:
        areas: names of the ranges of sizes, without that of all objects, which comes first.
        limits: of detections.
        keypoints: whether the names are those of keypoints.
        label: the class to measure; their mean by default.
    """
    precision, recall = curves.precision, curves.recall
    if label is not None:
        precision, recall = precision[:, :, label : label + 1], recall[:, label : label + 1]
    last = recall[..., -1]
    values = {"AP": precision[..., 0], "AP50": precision[_HALF, ..., 0], "AP75": precision[_THREE_QUARTERS, ..., 0]}
    values |= {f"AP{name}": precision[..., place] for place, name in enumerate(areas, start=1)}
    if keypoints:
        values |= {"AR": last[..., 0], "AR50": last[_HALF, ..., 0], "AR75": last[_THREE_QUARTERS, ..., 0]}
    else:
        values |= {f"AR{limit}": recall[..., 0, place] for place, limit in enumerate(limits)}
    values |= {f"AR{name}": last[..., place] for place, name in enumerate(areas, start=1)}
    return {name: mean(each) for name, each in values.items()}


def mean(values: NDArray[np.float64]) -> float | None:
    """Of those that are defined; None if none is."""
    defined = values[values > -1]
    return float(np.mean(defined)) if len(defined) else None


def tables(
    sections: Mapping[str, Mapping[str, float | None]],
    classes: Mapping[str, Mapping[str, Sequence[float | None]]],
    counts: Mapping[str, int],
    *,
    title: str = "COCO metrics (%)",
    kinds: Mapping[str, str] | None = None,
) -> list[Table]:
    """What to print.

    Args:
        sections: section -> metric -> value.
        classes: section -> metric -> value of each class; empty for no tables of classes.
        counts: class -> number of objects that count.
        title: of the first table.
        kinds: what comes behind AP or AR in a metric's name -> which objects those are, as "that is small"; sizes by
            default.
    """
    kinds = SIZES if kinds is None else kinds
    names = list(dict.fromkeys(metric for values in sections.values() for metric in values))
    found: list[Table] = [
        (
            title,
            ("metric", *sections),
            [(name, *(_cell(values, name) for values in sections.values())) for name in names],
        )
    ]
    for kind in ("AP", "AR") if classes else ():
        columns = {section: values[_of_all(kind, values)] for section, values in classes.items()}
        rows = [
            (name, str(count), *(percent(values[place]) for values in columns.values()))
            for place, (name, count) in enumerate(counts.items())
        ]
        found.append((f"{kind} by class (%)", ("class", "objects", *columns), rows))
    reasons = {
        name: _reason(name, sum(counts.values()), kinds)
        for name in names
        if any(values.get(name, 0.0) is None for values in sections.values())
    }
    if empty := [name for name, count in counts.items() if not count]:
        more = f", ... ({len(empty)} in all)" if len(empty) > 5 else ""
        reasons["by class"] = f"the dataset has no object of {', '.join(empty[:5])}{more}"
    return [*found, *undefined_table(reasons.items())]


def reasons(
    sections: Mapping[str, Mapping[str, float | None]], counts: Mapping[str, int], kinds: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Section -> metric -> why it is undefined; arguments as in `tables`."""
    objects = sum(counts.values())
    return {
        section: {name: _reason(name, objects, kinds) for name, value in values.items() if value is None}
        for section, values in sections.items()
    }


def precision_figure(section: str, precision: NDArray[np.float64]) -> Figure:
    """Precision against recall on average over the classes that have objects, from precision (T, R, K)."""
    there = (precision > -1).all(axis=(0, 1))
    means = precision[:, :, there].mean(axis=2) if there.any() else np.full(precision.shape[:2], np.nan)
    curves = (
        Curve("IoU 0.5", RECALLS, means[_HALF]),
        Curve("IoU 0.75", RECALLS, means[_THREE_QUARTERS]),
        Curve("mean of IoU 0.5 to 0.95", RECALLS, means.mean(axis=0), "main"),
    )
    note = "The mean over classes; the area below a curve is its AP."
    return Figures(f"{section}: precision and recall", "recall", "precision", curves, note=note)


def _of_all(kind: str, values: Mapping[str, object]) -> str:
    """The name of the AP, or of the AR, of objects of all sizes and of all detections that count."""
    numbered = [name for name in values if name.startswith(kind) and name[2:].isdecimal()]
    return kind if kind in values else max(numbered, key=lambda name: int(name[2:]))


def _cell(values: Mapping[str, float | None], name: str) -> str:
    return percent(values[name]) if name in values else ""


def _reason(metric: str, objects: int, kinds: Mapping[str, str]) -> str:
    if not objects:
        return "the dataset has no annotated objects"
    if metric in ("AP", "AR") or metric[2:].isdecimal():
        return "the dataset has no object with what is compared"
    return f"the dataset has no object {kinds.get(metric[2:], f'of size {metric[2:]}')}"
