"""`detkit data split`: a dataset in parts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

    from detkit.interfaces import Dataset

_HELP = """Divide SOURCE (what `data=` takes) into parts, and write them into the new folder OUT as COCO files.

Each part gets its share of the images of every class, rare ones too, and the same images each time. By default images
stay where they are: OUT/data.yaml names them, and is what `data=` takes.
"""


def command() -> click.Command:
    """The command."""
    import click

    params: list[click.Parameter] = [
        click.Argument(["source"]),
        click.Argument(["out"], type=click.Path(path_type=Path)),
        click.Option(
            ["--parts"],
            default="train=0.8,val=0.2",
            show_default=True,
            help="Names of parts and their shares, which sum to 1, or to 100.",
        ),
        click.Option(["--split"], help="What is divided, if SOURCE has several splits."),
        click.Option(["--seed"], default=0, show_default=True),
        click.Option(["--stratify/--no-stratify"], default=True, help="By class [default], or at random."),
        click.Option(
            ["--group-by"],
            metavar="REGEX|FIELD",
            help="Keep images together that are alike in this: the part of the file's name that a regular expression "
            "matches (its first group, if it has one), or a field of COCO's entries of images.",
        ),
        click.Option(
            ["--images"],
            type=click.Choice(["copy", "link", "symlink", "keep"]),
            default="keep",
            show_default=True,
            help="What to do with image files.",
        ),
    ]
    return click.Command("split", callback=_run, params=params, help=_HELP)


def _run(
    source: str,
    out: Path,
    parts: str,
    split: str | None,
    seed: int,
    stratify: bool,
    group_by: str | None,
    images: str,
) -> None:
    import click

    from detkit.atomic import new_folder
    from detkit.config import build
    from detkit.data.divide import divide
    from detkit.data.source import find_splits
    from detkit.data.subset import Subset
    from detkit.data.written import DATA
    from detkit.interfaces import DatasetWriter

    shares = _shares(parts)
    found = find_splits(source)
    if split is None and len(found) > 1:
        raise ValueError(f"{source} has the splits {', '.join(found)}; choose what to divide with --split")
    chosen = split or next(iter(found))
    if chosen not in found:
        raise ValueError(f"{source} has no split {chosen!r}; it has: {', '.join(found)}")
    dataset = found[chosen].open()
    groups = None if group_by is None else _groups(dataset, group_by)
    divided = divide(dataset, shares, seed=seed, by_class=stratify, groups=groups)
    subsets = {name: Subset(dataset, positions) for name, positions in divided.items()}
    with new_folder(out) as folder:
        build({"name": "coco", "images": images}, DatasetWriter).write(subsets, folder)
    _show(dataset, subsets)
    click.echo(f"wrote {out}; read it with data={quote(str(out / DATA if images == 'keep' else out))}")


def _shares(text: str) -> dict[str, float]:
    """Part -> share."""
    try:
        pairs = [each.split("=") for each in text.split(",")]
        shares = {name.strip(): float(share) for name, share in pairs}
    except ValueError:
        raise ValueError(f"--parts {text}: NAME=SHARE,NAME=SHARE is needed, such as train=0.8,val=0.2") from None
    total = sum(shares.values())
    if len(shares) < len(pairs) or not all(name.isidentifier() for name in shares):
        raise ValueError(f"--parts {text}: names of parts must be words, each given once")
    if min(shares.values()) <= 0 or min(abs(total - 1), abs(total - 100)) > 1e-6:
        raise ValueError(f"--parts {text}: the shares sum to {total:g}; they must be above 0 and sum to 1, or to 100")
    return shares


def _groups(dataset: Dataset, wanted: str) -> list[str]:
    """What decides which images stay together, of each image."""
    import re

    images: list[dict[str, Any]] = []
    if wanted.isidentifier():
        with suppress(ValueError):  # not in COCO's form
            images = dataset.streamed_truth()[0]["images"]
    if any(wanted in entry for entry in images):
        fields = {entry["id"]: entry.get(wanted) for entry in images}
        ids = [dataset.image_id(index) for index in range(len(dataset))]
        return [f"{fields[id]!r}" if fields.get(id) is not None else f"without: {id}" for id in ids]
    try:
        pattern = re.compile(wanted)
    except re.error as error:
        raise ValueError(
            f"--group-by {wanted}: neither a field of the images nor a regular expression: {error}"
        ) from None
    found = []
    for index in range(len(dataset)):
        place = dataset.place(index)
        name = place.replace("\\", "/").rpartition("/")[2]
        match = pattern.search(name)
        if match is None:
            raise ValueError(f"--group-by {wanted}: it is no field of the images, and does not match the name {name}")
        found.append(str(match[1] if pattern.groups else match[0]))
    if len(set(found)) == 1:
        raise ValueError(f"--group-by {wanted}: all images are one group, {found[0]!r}; they cannot be divided")
    return found


def _show(dataset: Dataset, subsets: Mapping[str, Dataset]) -> None:
    """How many images and objects each part has."""
    import torch
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("")
    for name in subsets:
        table.add_column(name, justify="right")
    table.add_row("images", *(str(len(subset)) for subset in subsets.values()), end_section=True)
    counts = []
    for subset in subsets.values():
        _, labels = subset.all_labels()
        counts.append(torch.bincount(labels, minlength=len(dataset.categories)).tolist())
    for label, name in enumerate(dataset.categories.names):
        table.add_row(name, *(str(count[label]) for count in counts))
    Console(markup=False, highlight=False).print(table)
