"""`detkit convert`: other projects' configs and weights into model directories."""

from __future__ import annotations

from pathlib import Path

from detkit.cli.running import run


def main(argv: list[str]) -> int:
    """`detkit convert FORMAT CONFIG WEIGHTS --out DIR`; FORMAT is a component of kind checkpoint_format."""
    import click

    from detkit.plugins import registry

    formats = registry().components("checkpoint_format")
    listing = "\n\n".join(f"{component.name}: {component.summary}" for component in formats) or "none is installed"

    @click.command(
        help="Turn the CONFIG and the WEIGHTS of another project into a model directory.\n\nFormats:\n\n" + listing
    )
    @click.argument("format")
    @click.argument("config", type=click.Path(path_type=Path))
    @click.argument("weights", type=click.Path(path_type=Path), required=False)
    @click.option("--out", type=click.Path(path_type=Path), required=True, help="The model directory to write.")
    def convert(format: str, config: Path, weights: Path | None, out: Path) -> None:
        written = registry().load("checkpoint_format", format)().convert(config, weights, out)
        click.echo(f"wrote {written}; try: detkit predict {written} IMAGE")

    return run(convert, "convert", argv)
