"""The report of an evaluation: one HTML file with everything in it, readable without a network for as long as there are
browsers.

The same evaluation gives the same file to the byte: it holds no time and nothing that depends on the machine.
"""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from detkit.atomic import write_whole
from detkit.interfaces import Evaluator
from detkit.report.figures import Bars, Curves, Matrix, Picture, Pictures, Table, View
from detkit.report.svg import chart, heat_map, styles

UNDEFINED = "there is nothing to measure it on"
"""Why a metric is undefined whose evaluator does not say why."""

_QUALITY = 82  # of JPEG
_NUMBER = re.compile(r"-?[\d.]+(e-?\d+)?%?|n/a.*|")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def reasons_of(evaluators: Sequence[Evaluator], metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Section -> metric -> why it is undefined, of all that are."""
    known: dict[str, Mapping[str, str]] = {}
    for evaluator in evaluators:
        known.update(evaluator.reasons())
    found = {
        section: {name: known.get(section, {}).get(name, UNDEFINED) for name, value in values.items() if value is None}
        for section, values in metrics.items()
    }
    return {section: reasons for section, reasons in found.items() if reasons}


def write_report(
    path: Path, title: str, facts: Mapping[str, str], evaluators: Sequence[Evaluator], metrics: Mapping[str, Any]
) -> None:
    """Write the report of evaluators that have computed.

    Args:
        path: of the file.
        title: what was evaluated.
        facts: what to say of it: model, data, versions, ...
        evaluators: of one dataset.
        metrics: section -> metric -> value, of all of them and perhaps others ("validation").
    """
    sections = [_metrics_section(metrics, reasons_of(evaluators, metrics))]
    names = ["Metrics"]
    for evaluator in evaluators:
        body = "".join(_evaluator_parts(evaluator, path.parent))
        if body:
            names.append(evaluator.title or type(evaluator).__name__)
            sections.append(body)
    links = "".join(f'<a href="#part-{number}">{escape(name)}</a>' for number, name in enumerate(names))
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    own = files("detkit.report")
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
        f"<title>{escape(title)}</title>\n<style>\n{own.joinpath('style.css').read_text('utf-8')}</style>\n</head>\n",
        f'<body>\n<header>\n<h1>{escape(title)}</h1>\n<dl class="facts">{rows}</dl>\n<nav>{links}</nav>\n</header>\n',
        "<main>\n",
        *(
            f'<section id="part-{number}">\n<h2>{escape(name)}</h2>\n{body}\n</section>\n'
            for number, (name, body) in enumerate(zip(names, sections, strict=True))
        ),
        "</main>\n<footer>Written by detkit. Names of columns sort tables; the mouse on curves and cells tells more."
        f"</footer>\n<script>\n{own.joinpath('sort.js').read_text('utf-8')}</script>\n</body>\n</html>\n",
    ]
    write_whole(path, "".join(parts))


def _metrics_section(metrics: Mapping[str, Any], reasons: Mapping[str, Mapping[str, str]]) -> str:
    parts = []
    for section, values in metrics.items():
        parts.append(f'<h3>{escape(section)}</h3><dl class="values">')
        for name, value in values.items():
            if value is None:
                why = escape(reasons[section][name])
                shown = f'n/a<span class="why">{why}</span>'
            else:
                shown = (
                    f"{value:.0f}" if value > 1 and float(value).is_integer() else f"{value:.4f}"
                )  # counts and shares
            label = escape(name).replace("_", "_<wbr>")
            parts.append(f"<div><dt>{label}</dt><dd>{shown}</dd></div>")
        parts.append("</dl>")
    return "".join(parts)


def _evaluator_parts(evaluator: Evaluator, folder: Path) -> Iterator[str]:
    figures = list(evaluator.figures())
    drawn = [_figure(figure, folder) for figure in figures if not isinstance(figure, (Pictures, Table))]
    if drawn:
        yield f'<div class="figures">{"".join(drawn)}</div>'
    tables = [_table(*table) for table in evaluator.tables()]
    tables += [_table(figure.title, figure.columns, figure.rows) for figure in figures if isinstance(figure, Table)]
    if tables:
        yield f'<div class="tables">{"".join(tables)}</div>'
    for figure in figures:
        if isinstance(figure, Pictures):
            yield f'<div class="figures">{_figure(figure, folder)}</div>'


def _figure(figure: Curves | Matrix | Bars | Pictures, folder: Path) -> str:
    if isinstance(figure, Curves):
        inside = chart(figure) + _legend(figure)
    elif isinstance(figure, Matrix):
        inside = f'<div class="scroll" tabindex="0">{heat_map(figure)}</div>'
    elif isinstance(figure, Bars):
        inside = _bars(figure)
    else:
        inside = _pictures(figure, folder)
    wide = " wide" if isinstance(figure, (Matrix, Pictures)) else ""
    note = f'<p class="note">{escape(figure.note)}</p>' if figure.note else ""
    if isinstance(figure, Pictures):  # so many that nobody would read what comes behind them
        inside, note = note + inside, ""
    return f'<div class="panel{wide}"><h3>{escape(figure.title)}</h3>{inside}{note}</div>\n'


def _legend(figure: Curves) -> str:
    items = []
    for curve, style in zip(figure.curves, styles(figure.curves), strict=True):
        if curve.kind == "columns":
            sign = '<rect class="column" width="22" height="10"/>'
        elif curve.kind != "quiet":
            sign = f'<path class="line {style}" d="M0 5h22"/>'
        else:
            continue
        items.append(f'<li><svg viewBox="0 0 22 10" aria-hidden="true">{sign}</svg>{escape(curve.name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>' if items else ""


def _bars(figure: Bars) -> str:
    longest = figure.longest or max((bar.value or 0.0 for bar in figure.bars), default=0.0) or 1.0
    rows = []
    for bar in figure.bars:
        width = 100 * (bar.value or 0.0) / longest
        drawn = f'<span class="bar" style="width:{width:.1f}%"></span>' if bar.value is not None else ""
        text = bar.text if bar.value is not None else f"n/a ({bar.text})"
        rows.append(
            f'<tr><th scope="row">{escape(bar.name)}</th><td>{drawn}</td><td class="text">{escape(text)}</td></tr>'
        )
    return f'<table class="bars"><tbody>{"".join(rows)}</tbody></table>'


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    numbers = [bool(rows) and all(_NUMBER.fullmatch(row[index]) for row in rows) for index in range(len(columns))]
    classes = [' class="number"' if number else "" for number in numbers]
    head = "".join(
        f'<th scope="col"{kind}><button type="button">{escape(name)}</button></th>'
        for name, kind in zip(columns, classes, strict=True)
    )
    lines = []
    for row in rows:
        cells = "".join(
            f"<td{_cell_class(text, number)}>{escape(text)}</td>" for text, number in zip(row, numbers, strict=True)
        )
        lines.append(f"<tr>{cells}</tr>")
    wide = " wide" if len(columns) > 5 else ""
    return (
        f'<div class="panel{wide}"><h3>{escape(title)}</h3><div class="scroll" tabindex="0"><table class="sortable">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div></div>\n"
    )


def _cell_class(text: str, number: bool) -> str:
    kinds = [*(["number"] if number else []), *(["undefined"] if text.startswith("n/a") else [])]
    return f' class="{" ".join(kinds)}"' if kinds else ""


def _pictures(figure: Pictures, folder: Path) -> str:
    items = "".join(f'<li><i style="background:{colour}"></i>{escape(name)}</li>' for name, colour in figure.legend)
    legend = f'<ul class="legend">{items}</ul>' if items else ""
    return f'{legend}<div class="pictures">{"".join(_picture(each, folder) for each in figure.pictures)}</div>'


def _picture(picture: Picture, folder: Path) -> str:
    name = escape(picture.title)
    if picture.path and Path(picture.path).is_file():
        address = quote(Path(os.path.relpath(picture.path, folder)).as_posix())
        name = f'<a href="{escape(address)}">{name}</a>'
    views = "".join(_view(view, picture.title) for view in picture.views)
    return (
        f'<figure><figcaption>{name} <span class="text">{escape(picture.text)}</span></figcaption>'
        f'<div class="views">{views}</div></figure>'
    )


def _view(view: View, title: str) -> str:
    with io.BytesIO() as file:
        view.image.save(file, "JPEG", quality=_QUALITY, optimize=True)
        data = base64.b64encode(file.getvalue()).decode()
    width, height = view.image.size
    return (
        f'<div><img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" '
        f'alt="{escape(f"{title}, {view.name}")}"><span class="text">{escape(view.name)}</span></div>'
    )
