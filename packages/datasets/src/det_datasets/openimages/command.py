"""`detkit data make openimages`."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run the command with these arguments; its exit status."""
    from det_datasets.openimages.make import make_openimages
    from det_datasets.practice import run_command

    text = "Write a tiny dataset in Open Images' layout: coloured shapes that are called balls, boxes, ..."
    return run_command(argv, "openimages", text, make_openimages)
