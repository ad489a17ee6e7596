"""What evaluators can show in a report (`Evaluator.figures`). How it looks is the page's business."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Curve:
    """A line through points, or columns.

    Args:
        name: for the legend.
        x: (N,) rising, or (N + 1,) edges of columns.
        y: (N,); a line is broken where it is NaN.
        kind: "line"; "main", a thick line; "quiet", one of many, without a place in the legend; or "columns".
        mark: x, y of a point that stands out.
    """

    name: str
    x: Sequence[float] | NDArray[np.float64]
    y: Sequence[float] | NDArray[np.float64]
    kind: Literal["line", "main", "quiet", "columns"] = "line"
    mark: tuple[float, float] | None = None


@dataclass(frozen=True)
class Curves:
    """Curves on common axes.

    Args:
        title: of the figure.
        x, y: what the axes show.
        curves: those in front last.
        x_max, y_max: the ends of the axes, which begin at 0.
        diagonal: whether a line shows where x and y are equal.
        note: what one should know to read it.
    """

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    x_max: float = 1.0
    y_max: float = 1.0
    diagonal: bool = False
    note: str = ""


@dataclass(frozen=True)
class Matrix:
    """Counts of pairs, such as a confusion matrix.

    Args:
        title: of the figure.
        rows, columns: the names of N classes and what comes behind them, such as a background; equal where both are
            the same class, so that those are right.
        counts: (rows, columns) whole numbers.
        row_axis, column_axis: what rows and columns are.
        classes: N. Of many only those are shown that are confused most.
        note: what one should know to read it.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    counts: NDArray[np.int64]
    row_axis: str
    column_axis: str
    classes: int
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """One of several bars.

    Args:
        name: what it is of.
        value: its length; None if it is undefined.
        text: the value in words, or why it is undefined.
    """

    name: str
    value: float | None
    text: str


@dataclass(frozen=True)
class Bars:
    """Bars below each other.

    Args:
        title: of the figure.
        bars: from top to bottom.
        longest: the value of a bar that is as long as can be; by default the greatest value.
        note: what one should know to read it.
    """

    title: str
    bars: Sequence[Bar]
    longest: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table for the report alone, such as a long one; `Evaluator.tables` are printed too.

    Args:
        title: of the table.
        columns: their names.
        rows: text, as many as there are columns.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class View:
    """One of several drawings of the same image.

    Args:
        name: what it shows.
        image: it is stored as JPEG in the size in which it is given: a few hundred pixels.
    """

    name: str
    image: Image.Image


@dataclass(frozen=True)
class Picture:
    """An image with a caption.

    Args:
        views: what is shown of it, side by side where there is room.
        title: the name of the image.
        text: what is to be seen.
        path: where the file is, for a link.
    """

    views: Sequence[View]
    title: str
    text: str
    path: str = ""


@dataclass(frozen=True)
class Pictures:
    """Several images.

    Args:
        title: of all of them.
        pictures: the first one first.
        note: what one should know to read them.
        legend: name -> colour "#rrggbb" of what is drawn.
    """

    title: str
    pictures: Sequence[Picture]
    note: str = ""
    legend: Sequence[tuple[str, str]] = ()


Figure = Curves | Matrix | Bars | Table | Pictures
