"""`detkit data make ade20k`."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run the command with these arguments; its exit status."""
    import click

    from det_datasets.ade20k.make import make_ade20k
    from det_datasets.practice import run_command

    text = "Write a tiny dataset in ADE20K's layout: coloured shapes that are called balls, boxes, walls, ..."
    panoptic = click.Option(
        ["--panoptic"], is_flag=True, help="Also the panoptic files that Mask2Former's scripts make."
    )
    return run_command(argv, "ade20k", text, make_ade20k, [panoptic])
