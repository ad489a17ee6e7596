"""`detkit data make yolo`."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run the command with these arguments; its exit status."""
    import click

    from det_datasets.practice import run_command
    from det_datasets.yolo.config import TASKS
    from det_datasets.yolo.make import make_yolo

    text = "Write a tiny dataset of coloured shapes in YOLO's layout: data.yaml, images/ and labels/."
    task = click.Option(["--task"], type=click.Choice(TASKS), default="segment", show_default=True, help="What for.")
    return run_command(argv, "yolo", text, make_yolo, [task])
