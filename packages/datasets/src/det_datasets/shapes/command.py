"""`detkit data make shapes`."""

from __future__ import annotations

from detkit.cli.running import run


def main(argv: list[str]) -> int:
    """Run the command with these arguments; its exit status."""
    import click
    from rich.progress import Progress

    @click.command
    @click.option("--out", required=True, type=click.Path(), help="Folder to write.")
    @click.option("--images", default=1000, show_default=True, help="Training pictures.")
    @click.option("--val-images", default=None, type=int, help="Validation pictures; a fifth of --images by default.")
    @click.option("--size", default=192, show_default=True, help="Mean side length in pixels.")
    @click.option("--seed", default=0, show_default=True)
    @click.option("--semantic", is_flag=True, help="Label pixels too, for semantic and panoptic models.")
    @click.option("--keypoints", is_flag=True, help="Annotate the top, left, right and bottom of each shape.")
    @click.option("--overwrite", is_flag=True, help="Replace a dataset that is there already.")
    def command(
        out: str,
        images: int,
        val_images: int | None,
        size: int,
        seed: int,
        semantic: bool,
        keypoints: bool,
        overwrite: bool,
    ) -> None:
        """Write a practice dataset of coloured shapes: JPEG files and COCO annotations in train/ and val/."""
        from pathlib import Path

        from det_datasets.shapes.make import make_shapes

        with Progress(transient=True) as bar:
            task = bar.add_task("painting", total=None)
            make_shapes(
                Path(out),
                images=images,
                val_images=max(1, images // 5) if val_images is None else val_images,
                size=size,
                seed=seed,
                semantic=semantic,
                keypoints=keypoints,
                overwrite=overwrite,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        click.echo(f"wrote {out}/train and {out}/val; train on them with data={out}")

    return run(command, "data make shapes", argv)
