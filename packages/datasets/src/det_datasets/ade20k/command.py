"""`detkit data make ade20k`."""

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
    @click.option("--panoptic", is_flag=True, help="Also the panoptic files that Mask2Former's scripts make.")
    def command(out: str, images: int, val_images: int, size: int, seed: int, panoptic: bool) -> None:
        """Write a tiny dataset in ADE20K's layout: coloured shapes that are called balls, boxes, walls, ..."""
        from pathlib import Path

        from det_datasets.ade20k.make import make_ade20k

        make_ade20k(Path(out), images=images, val_images=val_images, size=size, seed=seed, panoptic=panoptic)
        click.echo(f"wrote {out}; read it with data={out}")

    return run(command, "data make ade20k", argv)
