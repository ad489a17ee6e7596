"""A diagnosis as tables, as figures of a report, and as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from det_datasets.diagnosis.curves import RECALLS
from det_datasets.diagnosis.outcomes import IN_WORDS
from det_datasets.diagnosis.summary import NO_OBJECTS, Group, Summary
from det_datasets.evaluating import defined, percent
from detkit.report.figures import Bar, Bars, Curve, Curves, Figure, Matrix, Table

NOTHING, MISSED = "(nothing there)", "(missed)"
_NAMED = 10  # classes that have curves with names
_DRAWN = 80  # classes that have curves
_PAIRS = 20  # of classes that are confused, in a table
_THRESHOLDS = np.linspace(0, 1, 201)


def tables(found: Summary) -> list[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    """What is printed."""
    metrics = [
        (name, f"n/a ({why})" if value is None else _score(value)) for name, (value, why) in found.metrics.items()
    ]
    errors = [(_kind(name), str(count), percent(lost)) for name, (count, lost) in found.errors.items()]
    groups = [
        (group.name, str(group.objects), percent(group.recall), percent(_reachable(group)))
        for group in (*found.sizes, *found.crowding, *found.marks, *found.aside)
    ]
    return [
        ("Diagnosis", ("metric", "value"), metrics),
        (f"Errors {_threshold(found)}", ("kind", "number", f"{_ap(found)} lost (points)"), errors),
        ("Recall by group (%)", ("objects", "number", "recall", "at any score"), groups),
    ]


def long_tables(found: Summary, names: Sequence[str]) -> Iterator[Table]:
    """What a report shows besides: there may be a thousand classes."""
    classes = [
        (
            name,
            str(each.objects),
            *(percent(value) for value in (each.ap, each.precision, each.recall, each.f1)),
            _score(each.threshold),
            percent(each.localisation_error),
        )
        for name, each in zip(names, found.classes, strict=True)
    ]
    columns = ("class", "objects", _ap(found), "precision", "recall", "F1", "threshold", "LaECE")
    yield Table("Each class at its own best threshold (%)", columns, classes)
    if pairs := list(_pairs(found, names)):
        yield Table(f"Most confused {_threshold(found)}", ("object", "taken for", "times", "of the objects (%)"), pairs)


def _kind(name: str) -> str:
    """A kind of error in words, with the name that it has in TIDE where that is another."""
    return f"{IN_WORDS[name]} ({name})" if name in IN_WORDS else name


def _ap(found: Summary) -> str:
    return f"AP{round(100 * found.iou)}"


def _threshold(found: Summary) -> str:
    return "of all detections" if found.confidence == -np.inf else f"with scores from {found.confidence:.3f}"


def _pairs(found: Summary, names: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """The pairs of classes that are confused most."""
    counts = found.confusion[:-1, :-1].copy()
    np.fill_diagonal(counts, 0)
    totals = found.confusion.sum(axis=1)
    places = np.argsort(-counts, axis=None, kind="stable")[:_PAIRS]
    for row, column in zip(*np.unravel_index(places, counts.shape), strict=True):
        if count := int(counts[row, column]):
            yield names[row], names[column], str(count), f"{100 * count / int(totals[row]):.1f}"


def drawings(found: Summary, names: Sequence[str]) -> Iterator[Figure]:
    """What is drawn, but for images."""
    yield _precision(found, names)
    yield _f1(found)
    yield _calibration(found)
    yield _scores(found)
    yield Bars(
        "Recall by size, crowding and marks",
        [_bar(group) for group in (*found.sizes, *found.crowding, *found.marks)],
        1.0,
        f"Objects that are found at an IoU of {found.iou:g} by detections at the threshold of the best F1. Crowding: "
        "how much of an object's box lies inside the box of the object that covers it most.",
    )
    ap = _ap(found)
    yield Bars(
        f"Errors: how much {ap} each kind costs",
        [
            Bar(_kind(name), lost, NO_OBJECTS if lost is None else f"{percent(lost)} points, {count} times")
            for name, (count, lost) in found.errors.items()
        ],
        note=f"How much {ap} would rise if errors of a kind were mended (TIDE), of detections of any score; numbers of "
        f"errors {_threshold(found)}. They do not add up: mending one lays bare another.",
    )
    yield from long_tables(found, names)
    yield Matrix(
        f"Confusion {_threshold(found)}",
        (*names, NOTHING),
        (*names, MISSED),
        found.confusion,
        "object",
        "taken for",
        len(names),
        f"Detections are matched with objects of any class at an IoU of {found.iou:g}, best score first. Colours are "
        "shares of the row." + (" Shown are the classes that are confused most." if len(names) > 24 else ""),
    )


def _precision(found: Summary, names: Sequence[str]) -> Curves:
    by_class = found.precisions[found.iou]
    objects = np.array([each.objects for each in found.classes])
    drawn = [label for label in np.argsort(-objects, kind="stable")[:_DRAWN].tolist() if objects[label]]
    named = len(drawn) <= _NAMED
    curves = [
        Curve(
            names[label] if named else f"{names[label]}, AP {100 * by_class[label].mean():.1f}",
            RECALLS,
            by_class[label],
            "line" if named else "quiet",
        )
        for label in (drawn if named else drawn[::-1])
    ]
    there = objects > 0
    for iou in sorted(found.precisions, reverse=True):
        if there.any():
            mean = found.precisions[iou][there].mean(axis=0)
            kind: Any = "main" if iou == found.iou else "line"
            curves.append(Curve(f"mean, IoU {iou:g}", RECALLS, mean, kind))
    note = "" if there.any() else f"Undefined: {NO_OBJECTS}."
    if there.any() and not named:
        some = f", of the {_DRAWN} with most objects" if there.sum() > _DRAWN else ""
        note = f"Each grey line is a class{some}."
    return Curves(f"Precision and recall at IoU {found.iou:g}", "recall", "precision", curves, note=note)


def _f1(found: Summary) -> Curves:
    title, x, y = "F1 against the threshold of scores", "least score", "value"
    if found.ranking is None:
        return Curves(title, x, y, (), note=f"Undefined: {NO_OBJECTS}.")
    place = found.ranking.at(_THRESHOLDS)
    answered = place >= 0

    def values(of: NDArray[np.float64], beyond: float) -> NDArray[np.float64]:
        return np.where(answered, np.append(of, np.nan)[place], beyond)

    best = found.ranking.best()
    mark, note = None, "There is no right detection."
    if best is not None:
        mark = (float(found.ranking.scores[best].clip(0, 1)), float(found.ranking.f1[best]))
        note = f"F1 is greatest, {mark[1]:.3f}, from a score of {mark[0]:.3f} on."
    curves = (
        Curve("precision", _THRESHOLDS, values(found.ranking.precision, np.nan)),
        Curve("recall", _THRESHOLDS, values(found.ranking.recall, 0.0)),
        Curve("F1", _THRESHOLDS, values(found.ranking.f1, 0.0), "main", mark),
    )
    return Curves(title, x, y, curves, note=f"Of all classes together. {note}")


def _calibration(found: Summary) -> Curves:
    bins = found.calibration
    edges = np.linspace(0, 1, len(bins.counts) + 1)
    errors = [f"{name} {value:.3f}" for name in ("D-ECE", "LaECE") if (value := found.metrics[name][0]) is not None]
    note = f"Expected calibration errors: {', '.join(errors)}." if errors else "There is no detection."
    quality = Curve("share times overlap with the objects", bins.scores, bins.quality, "main")
    return Curves(
        "Calibration: what scores promise",
        "score",
        "share that is right",
        (Curve("share of detections that are right", edges, bins.precision, "columns"), quality),
        diagonal=True,
        note=f"{note} Above the dashed line scores are too low, below it too high.",
    )


def _scores(found: Summary) -> Curves:
    counts = found.calibration.counts
    share = counts / max(int(counts.sum()), 1)
    edges = np.linspace(0, 1, len(counts) + 1)
    top = max(float(share.max()) * 1.05, 0.1)
    return Curves(
        "How often each score is given",
        "score",
        "share of detections",
        (Curve("detections", edges, share, "columns"),),
        y_max=top,
        note=f"{int(counts.sum())} detections count.",
    )


def _bar(group: Group) -> Bar:
    if group.recall is None:
        return Bar(group.name, None, "there is no such object")
    return Bar(group.name, group.recall, f"{100 * group.recall:.1f} % of {group.objects}")


def _reachable(group: Group) -> float | None:
    return group.reachable / group.objects if group.objects else None


def plain(found: Summary, names: Sequence[str]) -> dict[str, Any]:
    """Everything for JSON; None is undefined."""
    bins = found.calibration
    edges = np.linspace(0, 1, len(bins.counts) + 1).tolist()
    return {
        "iou": found.iou,
        "metrics": {name: value for name, (value, _) in found.metrics.items()},
        "reasons": {name: why for name, (value, why) in found.metrics.items() if value is None},
        "classes": {name: asdict(each) for name, each in zip(names, found.classes, strict=True)},
        "confidence": None if found.confidence == -np.inf else found.confidence,
        "errors": {name: {"count": count, "lost_ap": lost} for name, (count, lost) in found.errors.items()},
        "confusion": {"rows": [*names, NOTHING], "columns": [*names, MISSED], "counts": found.confusion.tolist()},
        "groups": {
            group.key: {"objects": group.objects, "found": group.found, "found_at_any_score": group.reachable}
            for group in (*found.sizes, *found.crowding, *found.marks, *found.aside)
        },
        "calibration": [
            {"from": low, "to": high, "count": count, "score": score, "precision": precision, "quality": quality}
            for low, high, count, score, precision, quality in zip(
                edges[:-1],
                edges[1:],
                bins.counts.tolist(),
                *(map(defined, column.tolist()) for column in (bins.scores, bins.precision, bins.quality)),
                strict=True,
            )
        ],
    }


def _score(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
