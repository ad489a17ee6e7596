"""Tiny datasets of shapes in the layouts of other formats, and the commands that write them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from det_datasets.shapes.make import make_shapes
from detkit.cli.running import run
from detkit.data.source import find_splits
from detkit.interfaces import Dataset


class Writer(Protocol):
    """What writes datasets in a format."""

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None: ...


def write_practice(
    writer: Writer,
    out: Path,
    *,
    images: int = 12,
    val_images: int = 4,
    size: int = 96,
    seed: int = 0,
    names: Mapping[str, str] | None = None,
    splits: Mapping[str, str] | None = None,
    keypoints: bool = False,
) -> None:
    """Write a dataset of shapes, with crowds and pictures without shapes among few.

    Args:
        writer: of the format.
        out: folder to write.
        images, val_images, size, seed, keypoints: see `make_shapes`.
        names: what shapes are called in this format, those that are.
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
        )
        found = {name: split.open() for name, split in find_splits(scratch).items()}
        renamed = {(splits or {}).get(name, name): _renamed(dataset, names or {}) for name, dataset in found.items()}
        writer.write(renamed, out)


def _renamed(dataset: Dataset, names: Mapping[str, str]) -> Dataset:
    """The same dataset with other names of classes."""
    other = copy.copy(dataset)
    own = dataset.categories
    other.categories = replace(own, names=tuple(names.get(name, name) for name in own.names))
    return other


def run_command(argv: list[str], name: str, text: str, make: Callable[..., None]) -> int:
    """Run `detkit data make NAME` with these arguments; its exit status.

    Args:
        argv: the arguments.
        name: of the format.
        text: what the command's help says.
        make: called with the folder and `images`, `val_images`, `size` and `seed`.
    """
    import click

    @click.command(help=text)
    @click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
    @click.option("--images", default=12, show_default=True, help="Training pictures.")
    @click.option("--val-images", default=4, show_default=True, help="Validation pictures.")
    @click.option("--size", default=96, show_default=True, help="Mean side length in pixels.")
    @click.option("--seed", default=0, show_default=True)
    def command(out: Path, images: int, val_images: int, size: int, seed: int) -> None:
        make(out, images=images, val_images=val_images, size=size, seed=seed)
        click.echo(f"wrote {out}; read it with data={out}")

    return run(command, f"data make {name}", argv)
