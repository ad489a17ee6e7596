"""Tiny datasets of shapes in the layouts of other formats, and the commands that write them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from det_datasets.shapes.make import make_shapes
from detkit.cli.running import run
from detkit.data.source import find_splits
from detkit.interfaces import Dataset, DatasetWriter
from detkit.structures.categories import Categories

if TYPE_CHECKING:
    import click


def write_practice(
    writer: DatasetWriter,
    out: Path,
    *,
    images: int = 12,
    val_images: int = 4,
    size: int = 96,
    seed: int = 0,
    names: Mapping[str, str] | None = None,
    splits: Mapping[str, str] | None = None,
    keypoints: bool = False,
    semantic: bool = False,
) -> None:
    """Write a dataset of shapes, with crowds and pictures without shapes among few.

    Args:
        writer: of the format.
        out: folder to write.
        images, val_images, size, seed, keypoints, semantic: see `make_shapes`.
        names: what shapes, and with `semantic` grounds, are called in this format, those that are.
        splits: what train and val are called there.
    """
    with TemporaryDirectory() as scratch:
        make_shapes(
            Path(scratch),
            images=images,
            val_images=val_images,
            size=size,
            seed=seed,
            background_share=0.2,
            crowd_share=0.4,
            keypoints=keypoints,
            semantic=semantic,
        )
        found = {name: split.open() for name, split in find_splits(scratch).items()}
        renamed = {(splits or {}).get(name, name): _renamed(dataset, names or {}) for name, dataset in found.items()}
        writer.write(renamed, out)


def _renamed(dataset: Dataset, names: Mapping[str, str]) -> Dataset:
    """The same dataset with other names of classes."""
    other = copy.copy(dataset)
    other.categories = _with_names(dataset.categories, names)
    if dataset.semantic_categories is not None:
        other.semantic_categories = _with_names(dataset.semantic_categories, names)
    return other


def _with_names(categories: Categories, names: Mapping[str, str]) -> Categories:
    return replace(categories, names=tuple(names.get(name, name) for name in categories.names))


def run_command(
    argv: list[str], name: str, text: str, make: Callable[..., None], more: Sequence[click.Option] = ()
) -> int:
    """Run `detkit data make NAME` with these arguments; its exit status.

    Args:
        argv: the arguments.
        name: of the format.
        text: what the command's help says.
        make: called with the folder and `images`, `val_images`, `size`, `seed`, and the values of `more` options.
        more: options.
    """
    import click

    def write(out: Path, **values: Any) -> None:
        make(out, **values)
        click.echo(f"wrote {out}; read it with data={out}")

    options: list[click.Parameter] = [
        click.Option(["--out"], required=True, type=click.Path(path_type=Path), help="Folder to write."),
        click.Option(["--images"], default=12, show_default=True, help="Training pictures."),
        click.Option(["--val-images"], default=4, show_default=True, help="Validation pictures."),
        click.Option(["--size"], default=96, show_default=True, help="Mean side length in pixels."),
        click.Option(["--seed"], default=0, show_default=True),
        *more,
    ]
    return run(click.Command(name, callback=write, params=options, help=text), f"data make {name}", argv)
