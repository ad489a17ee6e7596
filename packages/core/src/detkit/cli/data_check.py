"""`detkit data check`: what is wrong with a dataset, and a corrected copy of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

    from detkit.data.check import SourceCheck, SplitReport
    from detkit.data.source import Openable

_HELP = """Look through SOURCE (what `data=` takes): its files, every image and every annotation.

Errors are what makes training or measuring go wrong, warnings what readers repair or what may be meant so. The exit
status is 1 if there are errors, unless --fix has written a copy without them.
"""
_PLACES = 3  # of each problem in tables; JSON has more
_STDOUT = "-"


def command() -> click.Command:
    """The command."""
    import click

    params: list[click.Parameter] = [
        click.Argument(["source"]),
        click.Option(["--split"], help="Only this split."),
        click.Option(
            ["--json", "json_file"],
            is_flag=False,
            flag_value=_STDOUT,
            metavar="[FILE]",
            help="The report as JSON, on standard output or in a file.",
        ),
        click.Option(
            ["--fix"], type=click.Path(path_type=Path), metavar="OUT", help="Write a corrected copy into a new folder."
        ),
        click.Option(
            ["--images"],
            type=click.Choice(["copy", "link", "symlink", "keep"]),
            default="link",
            show_default=True,
            help="What the copy does with image files; keep: it names those of SOURCE.",
        ),
    ]
    return click.Command("check", callback=_run, params=params, help=_HELP)


def _run(source: str, split: str | None, json_file: str | None, fix: Path | None, images: str) -> None:
    from detkit.cli.running import without_warnings
    from detkit.data.source import find_splits

    splits = find_splits(source)
    if split is not None:
        if split not in splits:
            raise ValueError(f"{source} has no split {split!r}; it has: {', '.join(splits)}")
        splits = {split: splits[split]}
    with without_warnings():
        status = _check(source, splits, json_file, fix, images)
    raise SystemExit(status)


def _check(source: str, splits: Mapping[str, Openable], json_file: str | None, fix: Path | None, images: str) -> int:
    import click
    from rich.console import Console
    from rich.progress import Progress

    from detkit.data.check import check
    from detkit.data.written import DATA

    with Progress(transient=True, console=Console(stderr=True)) as bar:
        tasks = {name: bar.add_task(f"reading {name}", total=None) for name in splits}
        reports, checks = check(
            splits, progress=lambda name, done, total: bar.update(tasks[name], completed=done, total=total)
        )
    if json_file is not None:
        _write_json(source, reports, json_file)
    if json_file != _STDOUT:
        for report in reports.values():
            _show(report)
    if fix is None:
        return int(any(report.findings.errors for report in reports.values()))
    named = _fix(reports, checks, fix, images)
    click.echo(f"wrote {fix}; read it with data={quote(str(fix / DATA if named else fix))}", err=True)
    return 0


def _write_json(source: str, reports: Mapping[str, SplitReport], file: str) -> None:
    import json

    import click

    from detkit.atomic import write_whole

    report: dict[str, Any] = {
        "version": 1,
        "source": source,
        "errors": sum(report.findings.errors for report in reports.values()),
        "warnings": sum(report.findings.warnings for report in reports.values()),
        "splits": {name: report.to_dict() for name, report in reports.items()},
    }
    text = json.dumps(report, indent=1, ensure_ascii=False)
    if file == _STDOUT:
        click.echo(text)
        return
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text + "\n")


def _fix(reports: Mapping[str, SplitReport], checks: Mapping[str, SourceCheck], out: Path, images: str) -> bool:
    """Write a corrected copy; whether a file names its splits, so that this is what is to be read."""
    from tempfile import TemporaryDirectory

    import click

    from detkit.atomic import new_folder
    from detkit.config import build
    from detkit.data.check import TRAIN, leaks_of
    from detkit.data.source import DEFAULT_READER
    from detkit.data.written import DATA, name_splits
    from detkit.interfaces import DatasetWriter

    others = {name: look.others() for name, look in checks.items()}
    writer = build({"name": "coco", "images": images}, DatasetWriter)
    with new_folder(out) as folder, TemporaryDirectory() as scratch:
        corrected = {}
        for name, look in checks.items():
            leaks = leaks_of(reports).get(name, {}) if name == TRAIN else {}
            place = Path(scratch) / name
            place.mkdir()
            try:
                corrected[name] = look.corrected(place, leaks.keys())
            except ValueError as error:
                raise ValueError(f"{name} cannot be corrected: {error}") from None
        writer.write(corrected, folder)
        if any(others.values()):
            name_splits(folder, others)
    for name, report in reports.items():
        for code, problem, count in report.findings:
            if problem.fix and not (code == "image-leak" and name != TRAIN):
                click.echo(f"{name}: {problem.text} ({count}): {problem.fix}", err=True)
        if others[name]:
            click.echo(f"{name}: {DATA} opens it with {', '.join(others[name])} of the source, not copied", err=True)
        if report.reader != DEFAULT_READER:
            click.echo(f"{name}: was {report.reader}; the copy is in COCO's format, read as {DEFAULT_READER}", err=True)
    return images == "keep" or any(others.values())


def _show(report: SplitReport) -> None:
    import click
    from rich.console import Console
    from rich.table import Table

    objects = sum(each.objects for each in report.classes)
    crowds = sum(each.crowds for each in report.classes)
    (low_height, low_width), (high_height, high_width) = report.smallest, report.largest
    click.echo(
        f"{report.name}: {report.images} images ({report.negatives} without annotations), "
        f"{low_width} x {low_height} to {high_width} x {high_height} pixels, {objects} objects, {crowds} crowds"
    )
    console = Console(markup=False, highlight=False)
    if report.classes:
        table = Table()
        for column in ("class", "id", "objects", "crowds", "images"):
            table.add_column(column, justify="left" if column == "class" else "right")
        for each in report.classes:
            table.add_row(each.name, str(each.id), str(each.objects), str(each.crowds), str(each.images))
        console.print(table)
    findings = report.findings
    if not findings.counts:
        click.echo("nothing is wrong")
        return
    table = Table()
    for column in ("level", "problem", "count", "what is wrong", "what --fix does"):
        table.add_column(column, justify="right" if column == "count" else "left", overflow="fold")
    for code, problem, count in findings:
        table.add_row(problem.level, code, str(count), problem.text, problem.fix)
    console.print(table)
    for code, _, count in findings:  # not in the table, which would cut paths apart: they are there to be copied
        places = findings.places[code]
        for place in places[:_PLACES]:
            click.echo(f"  {code}: {place.text}")
        if len(places) > _PLACES:
            click.echo(f"  {code}: and {count - _PLACES} more; --json FILE lists them")
    click.echo(f"{report.name}: {_counted(findings.errors, 'error')}, {_counted(findings.warnings, 'warning')}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
