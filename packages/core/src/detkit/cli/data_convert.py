"""`detkit data convert`: a dataset in another format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from detkit.interfaces import Dataset, DatasetWriter

_HELP = """Write SOURCE (what `data=` takes) into the new folder OUT, in another format.

KEY=VALUE are options of the format. What the format could not hold, and what was made for it, is counted at the end.
"""


def command() -> click.Command:
    """The command."""
    import click

    params: list[click.Parameter] = [
        click.Argument(["source"]),
        click.Argument(["out"], type=click.Path(path_type=Path)),
        click.Argument(["options"], nargs=-1, metavar="[KEY=VALUE ...]"),
        click.Option(["--format", "name"], metavar="NAME", help="The format; without it, all are listed."),
        click.Option(["--splits"], help="Only these, such as train,val."),
        click.Option(
            ["--images"],
            type=click.Choice(["copy", "link", "symlink", "keep"]),
            help="What to do with image files, where the format leaves a choice.",
        ),
    ]
    return click.Command("convert", callback=_run, params=params, help=_HELP)


def _run(
    source: str, out: Path, options: tuple[str, ...], name: str | None, splits: str | None, images: str | None
) -> None:
    writer = writer_of(name, options, images)
    write(writer, chosen(source, splits), out)


def writer_of(name: str | None, options: Sequence[str], images: str | None = None) -> DatasetWriter:
    """The writer of a format.

    Args:
        name: of the format.
        options: KEY=VALUE.
        images: what it does with image files, if it has the choice.

    Raises:
        ValueError: there is no such format, which lists them all, or it does not take these options.
    """
    from detkit.config import build
    from detkit.config.overrides import apply, from_arguments
    from detkit.interfaces import DatasetWriter
    from detkit.plugins import registry

    known = registry().components("dataset_writer")
    if name not in {each.name for each in known}:
        lines = [f"  {each.name}  {each.summary}" for each in known]
        asked = "give --format NAME" if name is None else f"there is no format {name!r}"
        raise ValueError("\n".join([f"{asked}; there are:", *lines]))
    arguments = apply({}, from_arguments(options))
    if images is not None:
        import inspect

        if "images" not in inspect.signature(registry().load("dataset_writer", name)).parameters:
            raise ValueError(f"the format {name} always gets image files of its own; leave out --images")
        arguments["images"] = images
    writer: DatasetWriter = build({"name": name, **arguments}, DatasetWriter)
    return writer


def chosen(source: str, splits: str | None) -> dict[str, Dataset]:
    """The splits of a data source, or those of them that are named, opened.

    Raises:
        ValueError: it has no such split.
    """
    from detkit.data.source import find_splits

    found = find_splits(source)
    names = list(found) if splits is None else [each.strip() for each in splits.split(",")]
    if missing := [each for each in names if each not in found]:
        raise ValueError(f"{source} has no split {missing[0]!r}; it has: {', '.join(found)}")
    return {each: found[each].open() for each in names}


def write(writer: DatasetWriter, datasets: Mapping[str, Dataset], out: Path) -> None:
    """Write datasets into a folder, and say what was lost.

    Args:
        writer: of the format.
        datasets: by their splits.
        out: the folder.
    """
    import click

    from detkit.cli.running import without_warnings
    from detkit.data.convert import convert
    from detkit.data.written import DATA

    with without_warnings():  # the same again, of what was written
        differences = convert(datasets, writer, out)
    for split, dataset in datasets.items():
        click.echo(f"{split}: {len(dataset)} images")
    for each in sorted(differences, key=lambda each: not each.lost):
        click.echo(f"{'WARNING' if each.lost else 'note:'} {each}", err=True)
    data = out / DATA if getattr(writer, "images", None) == "keep" else out
    click.echo(f"wrote {out}; read it with data={quote(str(data))}")
