"""`detkit convert`: other projects' configs and weights into model directories."""

from __future__ import annotations

from pathlib import Path

from detkit.cli.running import run


def main(argv: list[str]) -> int:
    """`detkit convert FORMAT MODEL [WEIGHTS] --out DIR`; FORMAT is a component of kind checkpoint_format."""
    import click

    from detkit.plugins import registry

    formats = registry().components("checkpoint_format")
    listing = "\n\n".join(f"{component.name}: {component.summary}" for component in formats) or "none is installed"

    @click.command(
        help="Turn a model of another project into a model directory. MODEL is its config file, or the name under "
        "which it is published; its WEIGHTS are downloaded if no file is given.\n\nFormats:\n\n" + listing
    )
    @click.argument("format")
    @click.argument("model")
    @click.argument("weights", type=click.Path(path_type=Path), required=False)
    @click.option("--out", type=click.Path(path_type=Path), required=True, help="The model directory to write.")
    @click.option("--sha256", metavar="HEX", help="The checksum that a downloaded file must have.")
    def convert(format: str, model: str, weights: Path | None, out: Path, sha256: str | None) -> None:
        if sha256 is not None and weights is not None:
            raise ValueError("--sha256 is of what is downloaded; leave it out, or leave out the file with the weights")
        written = registry().load("checkpoint_format", format)().convert(model, weights, out, sha256=sha256)
        click.echo(f"wrote {written}; try: detkit predict {written} IMAGE")

    return run(convert, "convert", argv)
