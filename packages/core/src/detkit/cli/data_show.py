"""`detkit data show`: pictures of a dataset with its annotations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from detkit.interfaces import Dataset, Transform
    from detkit.structures.sample import Sample

_HELP = """Draw images of SOURCE (what `data=` takes) with their annotations: into one picture, or, if --out ends in
.html, into a page with charts that needs no other files."""


def command() -> click.Command:
    """The command."""
    import click

    params: list[click.Parameter] = [
        click.Argument(["source"]),
        click.Option(["--split"], default="train", show_default=True),
        click.Option(["--images"], default=16, show_default=True, type=click.IntRange(min=1), help="How many."),
        click.Option(["--seed"], default=0, show_default=True, help="Which: they are drawn at random."),
        click.Option(["--class", "name"], metavar="NAME", help="Only images with objects of this class."),
        click.Option(["--transforms"], metavar="RECIPE", help="As training sees them: augmented as in this recipe."),
        click.Option(
            ["--out"],
            default="sheet.png",
            show_default=True,
            type=click.Path(path_type=Path, dir_okay=False),
            help="A picture, or a page (.html).",
        ),
    ]
    return click.Command("show", callback=_run, params=params, help=_HELP)


def _run(source: str, split: str, images: int, seed: int, name: str | None, transforms: str | None, out: Path) -> None:
    import click
    from PIL import Image

    from detkit.data.page import write_page
    from detkit.data.sheet import contact_sheet
    from detkit.data.source import open_split

    page = out.suffix.lower() in (".html", ".htm")
    if not page and out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--out {out}: a file that ends in .png, .jpg or .html is needed")
    dataset = open_split(source, split)
    chosen = _chosen(dataset, images, seed, name)
    sample = _augmented(dataset, _transforms(transforms), seed) if transforms else dataset.__getitem__
    out.parent.mkdir(parents=True, exist_ok=True)
    if page:
        title = f"{Path(source).name or source}: {split}"
        write_page(out, dataset, chosen, title=title, sample=sample, transforms=transforms)
    else:
        contact_sheet(dataset, chosen, sample=sample).save(out)
    click.echo(f"wrote {out}")


def _chosen(dataset: Dataset, count: int, seed: int, name: str | None) -> list[int]:
    """Positions of images, drawn at random and in the order of the dataset."""
    import random

    candidates = list(range(len(dataset)))
    if name is not None:
        label = dataset.categories.label_like(name)
        if label is None:
            raise ValueError(f"there is no class {name!r}; there are: {', '.join(dataset.categories.names)}")
        images, labels = dataset.all_labels()
        candidates = sorted(set(images[labels == label].tolist()))
        if not candidates:
            raise ValueError(f"no image has an object of the class {name!r}")
    return sorted(random.Random(seed).sample(candidates, min(count, len(candidates))))


def _transforms(recipe: str) -> list[Transform]:
    from detkit.config import Config

    found: list[Transform] = list(Config.load(recipe).build("transforms"))
    return found


def _augmented(dataset: Dataset, transforms: list[Transform], seed: int) -> Callable[[int], Sample]:
    from detkit.data.loader import augmented

    return lambda index: augmented(dataset, transforms, index, seed)
