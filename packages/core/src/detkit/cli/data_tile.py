"""`detkit data tile`: large images as overlapping tiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

_HELP = """Cut images of SOURCE (what `data=` takes) into overlapping tiles, and write these into the new folder OUT.

Names of tiles, NAME__1__LEFT___TOP, say where they lie. An object is in every tile that has enough of it; what of it
lies outside is cut off. The defaults are those of DOTA's devkit and of MMRotate. `detkit predict --tile` and
`detkit eval tile=...` see large images in the same tiles, and join the answers.

KEY=VALUE are options of the format.
"""


def command() -> click.Command:
    """The command."""
    import click

    params: list[click.Parameter] = [
        click.Argument(["source"]),
        click.Argument(["out"], type=click.Path(path_type=Path)),
        click.Argument(["options"], nargs=-1, metavar="[KEY=VALUE ...]"),
        click.Option(["--size"], default=1024, show_default=True, help="Side of a tile in pixels."),
        click.Option(["--overlap"], default=200, show_default=True, help="Of neighbouring tiles, in pixels."),
        click.Option(
            ["--keep"], default=0.7, show_default=True, help="Share of an object from which on it is in a tile."
        ),
        click.Option(
            ["--rest"],
            type=click.Choice(["drop", "crowd"]),
            default="drop",
            show_default=True,
            help="What becomes of objects of which there is less: a crowd is neither learned nor evaluated.",
        ),
        click.Option(["--empty/--no-empty"], default=True, help="Tiles without objects, too [default: yes]."),
        click.Option(
            ["--jpeg"], is_flag=True, help="JPEG files of a quality of 95, instead of PNG files, which lose nothing."
        ),
        click.Option(["--format", "name"], metavar="NAME", default="coco", show_default=True, help="What is written."),
        click.Option(["--splits"], help="Only these, such as train,val."),
    ]
    return click.Command("tile", callback=_run, params=params, help=_HELP)


def _run(
    source: str,
    out: Path,
    options: tuple[str, ...],
    size: int,
    overlap: int,
    keep: float,
    rest: str,
    empty: bool,
    jpeg: bool,
    name: str,
    splits: str | None,
) -> None:
    from detkit.cli.data_convert import chosen, write, writer_of
    from detkit.data.tiles import Tiles
    from detkit.tiling import Tiling

    tiling, writer = Tiling(size=size, overlap=overlap), writer_of(name, options)
    suffix = ".jpg" if jpeg else ".png"
    tiles = {}
    for split, dataset in chosen(source, splits).items():
        try:
            tiles[split] = Tiles(dataset, tiling, keep=keep, rest=rest, empty=empty, suffix=suffix)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"{split}: {error}") from None
    write(writer, tiles, out)
