"""Charts as SVG, for a page whose style sheet colours them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.report.figures import Curve, Curves, Matrix

COLOURS = 8
"""Classes `c0`, ... of the style sheet; further curves have the same colours, dashed."""

_WIDTH, _HEIGHT = 480, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 44
_CELL, _LETTER = 26, 5.8  # pixels of a cell of a matrix, and of a letter of a name beside it
_SHOWN = 24  # classes of a matrix
_OTHERS = "(all others)"
_LONGEST = 22  # letters of a name beside it


def chart(figure: Curves) -> str:
    """Curves with axes, grid and, for the mouse, names."""
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(x: Any, y: Any) -> tuple[Any, Any]:
        return _LEFT + wide * x / figure.x_max, _TOP + high * (1 - y / figure.y_max)

    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(_described(figure))}">'
    ]
    for value in ticks(figure.x_max):
        x, _ = at(value, 0)
        parts.append(f'<path class="grid" d="M{_number(x)} {_TOP}v{high}"/>')
        parts.append(
            f'<text class="tick" x="{_number(x)}" y="{_TOP + high + 16}" text-anchor="middle">{value:g}</text>'
        )
    for value in ticks(figure.y_max):
        _, y = at(0, value)
        parts.append(f'<path class="grid" d="M{_LEFT} {_number(y)}h{wide}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{_number(y + 4)}" text-anchor="end">{value:g}</text>')
    middle = (_LEFT + wide / 2, _TOP + high / 2)
    parts.append(
        f'<text class="axis" x="{_number(middle[0])}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(figure.x)}</text>'
        f'<text class="axis" transform="translate(13 {_number(middle[1])}) rotate(-90)" text-anchor="middle">'
        f"{escape(figure.y)}</text>"
    )
    for curve, style in zip(figure.curves, styles(figure.curves), strict=True):
        x_values, y_values = np.asarray(curve.x, np.float64), np.asarray(curve.y, np.float64)
        points = np.stack(at(x_values[: len(y_values)], y_values), axis=1)
        name = f"<title>{escape(curve.name)}</title>"
        if curve.kind == "columns":
            parts += _columns(curve, at(x_values, 0)[0], points[:, 1], _TOP + high)
        elif path := _path(points):
            parts.append(f'<path class="line {style}" d="{path}">{name}</path>')
        if curve.mark is not None:
            x, y = at(*curve.mark)
            parts.append(f'<circle class="mark {style}" cx="{_number(x)}" cy="{_number(y)}" r="4">{name}</circle>')
    if figure.diagonal:
        (x, y), (right, top) = at(0, 0), at(figure.x_max, figure.y_max)
        parts.append(f'<path class="diagonal" d="M{_number(x)} {_number(y)}L{_number(right)} {_number(top)}"/>')
    return "".join([*parts, "</svg>"])


def _described(figure: Curves) -> str:
    return f"{figure.title}: {figure.y} against {figure.x}"


def styles(curves: Sequence[Curve]) -> list[str]:
    """The classes of each curve in the style sheet."""
    found, number = [], 0
    for curve in curves:
        if curve.kind == "line":
            dashes = " dashed" if number // COLOURS % 2 else ""
            found.append(f"c{number % COLOURS}{dashes}")
            number += 1
        else:
            found.append(curve.kind)
    return found


def ticks(end: float) -> list[float]:
    """About five round numbers from 0 to `end`."""
    power = 10.0 ** np.floor(np.log10(end / 5))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= end / 5 * (1 - 1e-9))
    return [round(float(number * step), 12) for number in range(int(end / step * (1 + 1e-9)) + 1)]


def _columns(curve: Curve, edges: NDArray[np.float64], tops: NDArray[np.float64], bottom: float) -> Iterator[str]:
    places = zip(edges[:-1], edges[1:], tops, curve.x, curve.x[1:], curve.y, strict=False)
    for left, right, top, low, high, value in places:
        if not np.isnan(top):
            width, height = max(right - left - 1, 1), bottom - top
            yield (
                f'<rect class="column" x="{_number(left)}" y="{_number(top)}" width="{_number(width)}" '
                f'height="{_number(height)}"><title>{escape(curve.name)}, {low:g} to {high:g}: {value:.3g}</title>'
                "</rect>"
            )


def _path(points: NDArray[np.float64]) -> str:
    """A line (N, 2) without the points that are straight between their neighbours."""
    parts, pen = [], "M"
    rounded = np.round(points, 1)
    for index, (x, y) in enumerate(rounded.tolist()):
        if np.isnan(y):
            pen = "M"
            continue
        if 0 < index < len(rounded) - 1 and pen == "L":
            before, after = rounded[index] - rounded[index - 1], rounded[index + 1] - rounded[index]
            if before[0] * after[1] == before[1] * after[0] and (before * after).sum() > 0:
                continue
        parts.append(f"{pen}{_number(x)} {_number(y)}")
        pen = "L"
    return "".join(parts) if len(parts) > 1 else ""


def heat_map(figure: Matrix) -> str:
    """A matrix whose cells are as dark as their share of the row; right ones in another colour than wrong ones."""
    rows, columns, counts = _reduced(figure)
    left = 26 + _LETTER * min(max(map(len, rows)), _LONGEST)
    top = 26 + _LETTER * 0.82 * min(max(map(len, columns)), _LONGEST)
    slant = _LETTER * 0.58 * min(max(map(len, columns)), _LONGEST)  # of the last column's name
    width, height = left + _CELL * len(columns) + slant, top + _CELL * len(rows) + 4
    parts = [
        f'<svg class="matrix" viewBox="0 0 {width:.0f} {height:.0f}" style="width:{width:.0f}px" role="img" '
        f'aria-label="{escape(f"{figure.title}: {figure.row_axis} against {figure.column_axis}")}">',
        f'<text class="axis" transform="translate(12 {_number(top + _CELL * len(rows) / 2)}) rotate(-90)" '
        f'text-anchor="middle">{escape(figure.row_axis)}</text>',
        f'<text class="axis" x="{_number(left)}" y="12">{escape(figure.column_axis)}</text>',
    ]
    for number, name in enumerate(columns):
        x = left + _CELL * (number + 0.6)
        parts.append(
            f'<text class="name" transform="translate({_number(x)} {top - 6:.0f}) rotate(-55)">{_cut(name)}</text>'
        )
    totals = counts.sum(axis=1)
    for row, name in enumerate(rows):
        y = top + _CELL * row
        parts.append(
            f'<text class="name" x="{left - 6:.0f}" y="{_number(y + _CELL * 0.64)}" text-anchor="end">'
            f"{_cut(name)}</text>"
        )
        for column, other in enumerate(columns):
            count = int(counts[row, column])
            if not count:
                parts.append(_cell(left + _CELL * column, y, "none", ""))
                continue
            share = count / int(totals[row])
            kind = "mixed" if (name, other) == (_OTHERS, _OTHERS) else "right" if name == other else "wrong"
            title = f"{figure.row_axis} {name}, {figure.column_axis} {other}: {count} ({100 * share:.1f} %)"
            parts.append(_cell(left + _CELL * column, y, kind, title, share))
            dark = " strong" if share > 0.55 else ""
            parts.append(
                f'<text class="count{dark}" x="{_number(left + _CELL * (column + 0.5) - 0.5)}" '
                f'y="{_number(y + _CELL * 0.63)}" text-anchor="middle">{_short(count)}</text>'
            )
    return "".join([*parts, "</svg>"])


def _reduced(figure: Matrix) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """Names and counts of what is shown: of many classes those that are confused most, and all others together."""
    counts, classes = figure.counts, figure.classes
    if classes <= _SHOWN:
        return list(figure.rows), list(figure.columns), counts
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    with_classes = wrong[:classes, :classes].sum(axis=1) + wrong[:classes, :classes].sum(axis=0)
    with_all = wrong[:classes].sum(axis=1) + wrong[:, :classes].sum(axis=0)
    shown = np.sort(np.lexsort((-with_all, -with_classes))[:_SHOWN])
    others = np.setdiff1d(np.arange(classes), shown)
    rest = [np.arange(classes, size) for size in counts.shape]
    groups = [[*shown[:, None], others, *rest[axis][:, None]] for axis in (0, 1)]
    small = np.stack([counts[group].sum(axis=0) for group in groups[0]])
    small = np.stack([small[:, group].sum(axis=1) for group in groups[1]], axis=1)
    kept = shown.tolist()
    rows, columns = (
        [*(names[index] for index in kept), _OTHERS, *names[classes:]] for names in (figure.rows, figure.columns)
    )
    return rows, columns, small


def _cell(x: float, y: float, kind: str, title: str, share: float = 1.0) -> str:
    opacity = f' fill-opacity="{max(share, 0.06):.2f}"' if kind != "none" else ""
    inside = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect class="cell {kind}" x="{_number(x)}" y="{_number(y)}" width="{_CELL - 1}" height="{_CELL - 1}"'
        f"{opacity}>{inside}</rect>"
    )


def _short(count: int) -> str:
    """A count in four letters."""
    for limit, size, letter in ((10_000, 1, ""), (1_000_000, 1000, "k"), (1_000_000_000, 1_000_000, "M")):
        if count < limit:
            return f"{round(count / size)}{letter}"
    return f"{round(count / 1e9)}G"


def _cut(name: str) -> str:
    return escape(name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…")


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
