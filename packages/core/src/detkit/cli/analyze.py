"""`detkit analyze`: what a model costs, part by part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.cli.running import run

if TYPE_CHECKING:
    from detkit.analysis import Analysis, Cost

SORTS = ("parameters", "flops", "activations")

_HELP = """Count parameters, floating point operations and activations of MODEL for one image, part by part.

MODEL is a model directory, a run's directory, a recipe's name or a YAML file. KEY=VALUE changes a recipe, such as
model.backbone.depth=101. Nothing is computed, and weights are not needed.

A FLOP is one addition or one multiplication, so that a multiply-accumulate is two. Counted are convolutions, matrix
products and attention, and as activations the numbers that these give.
"""


def main(argv: list[str]) -> int:
    """`detkit analyze MODEL [KEY=VALUE ...] [--depth N] [--size H W | --image FILE] [--json]`."""
    import click

    params: list[click.Parameter] = [
        click.Argument(["model"]),
        click.Argument(["changes"], nargs=-1, type=click.UNPROCESSED, metavar="[KEY=VALUE ...]"),
        click.Option(
            ["--depth"], type=click.IntRange(0), default=2, show_default=True, help="Of the table; 0: one line."
        ),
        click.Option(
            ["--size"],
            type=click.IntRange(1),
            nargs=2,
            metavar="H W",
            help="Pixels of the resized image [default: the largest that the model resizes images to].",
        ),
        click.Option(["--image"], type=click.Path(path_type=Path), metavar="FILE", help="Take the size of this image."),
        click.Option(["--classes"], type=click.IntRange(1), metavar="N", help="Classes of a recipe's model."),
        click.Option(["--sort"], type=click.Choice(SORTS), help="Within each part, the largest first."),
        click.Option(["--json", "as_json"], is_flag=True, help="For programs."),
    ]
    command = click.Command(
        "analyze", callback=_analyze, params=params, help=_HELP, context_settings={"ignore_unknown_options": True}
    )
    return run(command, "analyze", argv)


def _analyze(
    model: str,
    changes: tuple[str, ...],
    depth: int,
    size: tuple[int, int] | None,
    image: Path | None,
    classes: int | None,
    sort: str | None,
    as_json: bool,
) -> None:
    from detkit.analysis import COUNTED, NOT_COUNTED, analyze
    from detkit.data.image import read_image
    from detkit.structures.categories import Categories

    if size and image:
        raise ValueError("--size and --image exclude each other: the one is the size after resizing, the other before")
    image_size = None
    if image is not None:
        _, height, width = read_image(image).shape
        image_size = height, width
    found = analyze(
        model,
        size=size,
        image_size=image_size,
        categories=None if classes is None else Categories.numbered(classes),
        changes=changes,
    )
    costs = found.to_depth(depth, sort=sort)
    if as_json:
        import json

        print(json.dumps(_plain(model, found, costs), indent=2))
        return
    (height, width), padded = found.image, found.padded
    print(f"{model}: one image of {height} x {width} pixels (height x width), padded to {padded[0]} x {padded[1]}\n")
    print("\n".join(table(costs)))
    print(f"\n{found.total.trainable:,} of the parameters are trained")
    print(f"counted: {COUNTED}; a multiply-accumulate is 2 FLOP\nnot counted: {NOT_COUNTED}")


def table(costs: list[Cost]) -> list[str]:
    """Lines of text: a heading, then one line for each module, set in as deep as it lies."""
    rows = [("module", "type", "parameters", "GFLOP", "M activations")]
    for cost in costs:
        name = "  " * cost.depth + (cost.name.rpartition(".")[2] or "(all)")
        rows.append(
            (name, cost.type, f"{cost.parameters:,}", f"{cost.flops / 1e9:,.3f}", f"{cost.activations / 1e6:,.3f}")
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:{width}}" if column < 2 else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _plain(model: str, found: Analysis, costs: list[Cost]) -> dict[str, Any]:
    from dataclasses import asdict

    from detkit.analysis import COUNTED, NOT_COUNTED

    return {
        "model": model,
        "image": list(found.image),
        "padded": list(found.padded),
        "flops": "operations; a multiply-accumulate is two",
        "counted": COUNTED,
        "not counted": NOT_COUNTED,
        "modules": [asdict(cost) for cost in costs],
    }
