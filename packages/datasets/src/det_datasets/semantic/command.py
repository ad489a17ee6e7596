"""`detkit data make coco-stuff`."""

from __future__ import annotations

from detkit.cli.running import run


def main(argv: list[str]) -> int:
    """Run the command with these arguments; its exit status."""
    import click

    @click.command
    @click.option("--out", required=True, type=click.Path(), help="Folder to write.")
    @click.option("--images", default=12, show_default=True, help="Training pictures.")
    @click.option("--val-images", default=4, show_default=True, help="Validation pictures.")
    @click.option("--size", default=96, show_default=True, help="Mean side length in pixels.")
    @click.option("--seed", default=0, show_default=True)
    def command(out: str, images: int, val_images: int, size: int, seed: int) -> None:
        """Write a tiny dataset of textured ground in the layout of COCO's stuff download."""
        from pathlib import Path

        from det_datasets.semantic.make import make_coco_stuff

        make_coco_stuff(Path(out), images=images, val_images=val_images, size=size, seed=seed)
        click.echo(f"wrote {out}; read it with data={out}")

    return run(command, "data make coco-stuff", argv)
