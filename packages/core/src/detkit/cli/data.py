"""`detkit data`: make, check and show datasets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from detkit.cli.running import run

if TYPE_CHECKING:
    import click

    from detkit.data.check import Report

MAKER_PREFIX = "data-make-"
"""Plugins provide `detkit data make NAME` as the command component "data-make-NAME"."""

PREFIX = "data-"
"""Plugins provide `detkit data NAME` as the command component "data-NAME", and `detkit data acme/NAME` as
"acme/data-NAME"."""


def main(argv: list[str]) -> int:
    """`detkit data make NAME | check SOURCE | show SOURCE`."""
    import click

    if argv[:1] == ["make"] and len(argv) > 1 and not argv[1].startswith("-"):
        return _make(argv[1], argv[2:])

    @click.group(help="Make, check and show datasets.")
    def data() -> None:
        pass

    @data.command(add_help_option=True)
    def make() -> None:
        """Make a practice dataset: `detkit data make NAME --out DIR`. Without NAME, list what can be made."""
        click.echo(_makers())

    @data.command()
    @click.argument("source")
    @click.option("--split", help="Only this split.")
    def check(source: str, split: str | None) -> None:
        """Read every image and annotation of SOURCE (what `data=` takes); exit code 1 if an image cannot be read."""
        raise SystemExit(_check(source, split))

    @data.command()
    @click.argument("source")
    @click.option("--split", default="train", show_default=True)
    @click.option("--images", default=16, show_default=True, type=click.IntRange(min=1), help="How many.")
    @click.option("--seed", default=0, show_default=True, help="Which: they are drawn at random.")
    @click.option("--out", default="sheet.png", show_default=True, type=click.Path(path_type=Path))
    def show(source: str, split: str, images: int, seed: int, out: Path) -> None:
        """Draw images of SOURCE with their annotations into one picture."""
        import random

        from detkit.data.sheet import contact_sheet
        from detkit.data.source import open_split

        dataset = open_split(source, split)
        chosen = random.Random(seed).sample(range(len(dataset)), min(images, len(dataset)))
        out.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(dataset, chosen).save(out)
        click.echo(f"wrote {out}")

    _add_plugins(data)
    return run(data, "data", argv)


def _add_plugins(data: click.Group) -> None:
    """The commands of plugins, which see to their own arguments."""
    import click

    from detkit.plugins import registry

    for each in registry().components("command"):
        owner, slash, last = each.name.rpartition("/")
        name = owner + slash + last.removeprefix(PREFIX)
        if name == each.name or last.startswith(MAKER_PREFIX) or name in data.commands:
            continue
        given = click.Argument(["given"], nargs=-1, type=click.UNPROCESSED)
        settings = {"ignore_unknown_options": True}
        callback = partial(_run_plugin, each.name)
        data.add_command(click.Command(name, settings, callback, [given], each.summary, add_help_option=False))


def _run_plugin(name: str, given: tuple[str, ...]) -> None:
    from detkit.plugins import registry

    raise SystemExit(registry().load("command", name)(list(given)))


def _make(name: str, argv: list[str]) -> int:
    from detkit.plugins import UnknownComponentError, registry

    if MAKER_PREFIX + name not in registry().names("command"):
        raise UnknownComponentError(f"nothing called {name!r} can be made\n{_makers()}")
    status: int = registry().load("command", MAKER_PREFIX + name)(argv)
    return status


def _makers() -> str:
    from detkit.plugins import registry

    made = [each for each in registry().components("command") if each.name.startswith(MAKER_PREFIX)]
    lines = [f"  {each.name.removeprefix(MAKER_PREFIX)}  {each.summary}" for each in made]
    return "\n".join(["what can be made:", *lines]) if lines else "no plugin makes datasets; pip install det-datasets"


def _check(source: str, only: str | None) -> int:
    import click
    from rich.progress import Progress

    from detkit.data.check import check
    from detkit.data.source import find_splits

    splits = find_splits(source)
    if only is not None and only not in splits:
        raise ValueError(f"{source} has no split {only!r}; it has: {', '.join(splits)}")
    status = 0
    for name in splits if only is None else [only]:
        dataset = splits[name].open()
        with Progress(transient=True) as bar:
            task = bar.add_task(f"reading {name}", total=len(dataset))
            report = check(dataset, progress=partial(bar.update, task, advance=1))
        click.echo(_described(name, report))
        status |= bool(report.unreadable)
    return status


def _described(split: str, report: Report) -> str:
    (low_height, low_width), (high_height, high_width) = report.smallest, report.largest
    lines = [
        f"{split}: {report.images} images ({report.negatives} without annotations), "
        f"{low_width} x {low_height} to {high_width} x {high_height} pixels, "
        f"{sum(report.objects.values())} objects, {report.crowds} crowds"
    ]
    width = max(map(len, report.objects), default=0)
    lines += [f"  {name:{width}}  {count:8}" for name, count in report.objects.items()]
    lines += [f"  {count} {problem}" for problem, count in report.problems.items()]
    if report.tiny:
        lines.append(f"  {report.tiny} boxes are less than 2 pixels wide or high")
    if report.aside:
        lines.append(f"  {report.aside} boxes are more than 5 pixels away from the outline of their object")
    if report.without_mask:
        lines.append(f"  {report.without_mask} objects have no mask")
    lines += [f"  UNREADABLE {message}" for message in report.unreadable]
    return "\n".join(lines)
