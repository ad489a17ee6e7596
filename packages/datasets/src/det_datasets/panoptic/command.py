"""`detkit data make coco-panoptic` and `detkit data make panoptic-stuff`."""

from __future__ import annotations

from detkit.cli.running import run


def make(argv: list[str]) -> int:
    """Run `detkit data make coco-panoptic` with these arguments; its exit status."""
    import click

    from det_datasets.panoptic.make import make_coco_panoptic
    from det_datasets.practice import run_command

    text = "Write a tiny dataset of coloured shapes in the layout of COCO's panoptic download."
    instances = click.Option(
        ["--instances"], is_flag=True, help="Also instances_*.json and panoptic_stuff_*/, for Panoptic FPN."
    )
    return run_command(argv, "coco-panoptic", text, make_coco_panoptic, [instances])


def make_stuff(argv: list[str]) -> int:
    """Run `detkit data make panoptic-stuff` with these arguments; its exit status."""
    import click
    from rich.progress import Progress

    @click.command
    @click.option("--annotations", required=True, type=click.Path(), help="annotations/panoptic_train2017.json")
    @click.option("--pictures", required=True, type=click.Path(), help="annotations/panoptic_train2017")
    @click.option("--out", required=True, type=click.Path(), help="Folder to write: panoptic_stuff_train2017.")
    def command(annotations: str, pictures: str, out: str) -> None:
        """Write labels of pixels in which all things are one class, from COCO's panoptic files."""
        from pathlib import Path

        from det_datasets.panoptic.stuff import write_stuff

        with Progress(transient=True) as bar:
            task = bar.add_task("converting", total=None)
            write_stuff(
                Path(annotations),
                Path(pictures),
                Path(out),
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        click.echo(f"wrote {out} and {out}.json")

    return run(command, "data make panoptic-stuff", argv)
