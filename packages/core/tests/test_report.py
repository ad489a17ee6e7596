from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from detkit.interfaces import Evaluator
from detkit.report.figures import Bar, Bars, Curve, Curves, Figure, Matrix, Picture, Pictures, Table, View
from detkit.report.page import reasons_of, write_report
from detkit.report.svg import chart, heat_map, ticks

VOID = {"meta", "img", "br", "link", "wbr"}
RED = Image.new("RGB", (40, 30), "red")
NASTY = "<script>alert(\"x\")</script> & 'y'"


class Shown(Evaluator):
    """An evaluator of which a report needs only what it shows."""

    title: ClassVar[str] = "Shown"

    def __init__(self, figures: Sequence[Figure] = (), classes: int = 3) -> None:
        self._figures, self._classes = figures, classes

    def start(self, dataset: Any) -> None: ...

    def add(self, prediction: Any, info: Any) -> None: ...

    def state(self) -> Any: ...

    def merge(self, states: Any) -> None: ...

    def compute(self) -> dict[str, dict[str, Any]]:
        return {"bbox": {"AP": 0.5, "APs": None}}

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        rows = [(f"class {number} {NASTY}", f"{number / 7:.1f}", "n/a") for number in range(self._classes)]
        return [("By class", ("class", "AP", "AR"), rows)]

    def reasons(self) -> Mapping[str, Mapping[str, str]]:
        return {"bbox": {"APs": "no small object", "AP": "not needed"}}

    def figures(self) -> Sequence[Figure]:
        return self._figures


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects what a browser would fetch and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster", "background") or (name == "href" and tag != "a"):
                self.fetched.append(value or "")
            if name == "href" and tag == "a":
                self.links.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def confusion(classes: int) -> Matrix:
    counts = np.random.default_rng(0).integers(0, 5, (classes + 1, classes + 1))
    names = [f"class {number}" for number in range(classes)]
    return Matrix("Confusion", (*names, "(nothing)"), (*names, "(missed)"), counts, "object", "taken for", classes)


def every_figure(path: str = "") -> list[Figure]:
    points = np.linspace(0, 1, 11)
    line = Curve(NASTY, points, 1 - points**2, mark=(0.5, 0.75))
    broken = Curve("broken", points, np.where(points > 0.5, np.nan, points), "main")
    columns = Curve("columns", points, np.append(points[:9], np.nan), "columns")
    return [
        Curves("Curves", "x", "y", (line, broken, columns), diagonal=True, note="A note."),
        confusion(3),
        Table("Long", ("name", "number"), [("one", "1.5")]),
        Bars("Bars", [Bar("one", 0.5, "half"), Bar("none", None, "nothing there")]),
        Pictures(
            "Worst",
            [Picture([View(name, RED) for name in ("annotated", NASTY)], NASTY, "1 wrong", path)],
            legend=[("a", "#ff0000")],
        ),
    ]


def written(folder: Path, evaluators: Sequence[Evaluator], name: str = "report.html") -> str:
    metrics = evaluators[0].compute()
    write_report(folder / name, f"model {NASTY}", {"model": "runs/a"}, evaluators, metrics)
    return (folder / name).read_text("utf-8")


def test_a_page_is_whole_and_fetches_nothing(tmp_path: Path) -> None:
    text = written(tmp_path, [Shown(every_figure())])
    page = Page(text)
    assert page.fetched and all(source.startswith("data:image/jpeg;base64,") for source in page.fetched)
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text
    assert page.tags.count("script") == 1 and page.tags.count("svg") == 2 + 3  # two figures, three signs in a legend
    assert "default-src 'none'" in text


def test_what_is_undefined_is_named_with_its_reason(tmp_path: Path) -> None:
    page = Page(written(tmp_path, [Shown()]))
    assert "n/ano small object" in page.text and "not needed" not in page.text
    assert "n/a (nothing there)" in Page(written(tmp_path, [Shown(every_figure())])).text


def test_the_same_evaluation_gives_the_same_page(tmp_path: Path) -> None:
    assert written(tmp_path, [Shown(every_figure())]) == written(tmp_path, [Shown(every_figure())], "again.html")


def test_pictures_link_to_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    file = tmp_path / "images" / "a street.jpg"
    file.write_bytes(b"")
    (tmp_path / "out").mkdir()
    links = Page(written(tmp_path / "out", [Shown(every_figure(str(file)))])).links
    assert "../images/a%20street.jpg" in links
    assert "jpg" not in "".join(Page(written(tmp_path / "out", [Shown(every_figure("shard.tar/a.jpg"))])).links)


def test_many_classes_stay_readable_and_small(tmp_path: Path) -> None:
    points = np.linspace(0, 1, 101)
    curves = [Curve(f"class {number}", points, points, "quiet") for number in range(80)]
    text = written(tmp_path, [Shown([confusion(1203), Curves("PR", "recall", "precision", curves)], classes=1203)])
    Page(text)
    assert len(text) < 600_000
    assert text.count('class="cell') == 26 * 26  # 24 classes, the others together, and the background


def test_a_matrix_loses_no_count_when_it_is_reduced() -> None:
    figure = confusion(100)
    titles = re.findall(r": (\d+) \(", heat_map(figure))
    assert sum(map(int, titles)) == figure.counts.sum()


def test_lines_leave_out_points_that_are_straight() -> None:
    flat = Curve("flat", np.linspace(0, 1, 101), np.full(101, 0.5))
    path = re.search(r'class="line c0" d="([^"]+)"', chart(Curves("Flat", "x", "y", [flat])))
    assert path is not None and path[1].count("L") == 1


@pytest.mark.parametrize(
    ("end", "expected"),
    [(1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0.3, [0, 0.1, 0.2, 0.3]), (0.1, [0, 0.02, 0.04, 0.06, 0.08, 0.1])],
)
def test_ticks_are_round(end: float, expected: list[float]) -> None:
    assert ticks(end) == expected


def test_reasons_are_of_undefined_metrics_alone() -> None:
    metrics: dict[str, dict[str, Any]] = {"bbox": {"AP": 0.5, "APs": None, "ARs": None}, "validation": {"loss": 1.0}}
    found = reasons_of([Shown()], metrics)
    assert found == {"bbox": {"APs": "no small object", "ARs": "there is nothing to measure it on"}}
