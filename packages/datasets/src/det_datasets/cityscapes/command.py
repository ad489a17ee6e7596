"""`detkit data make cityscapes`."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run the command with these arguments; its exit status."""
    from det_datasets.cityscapes.make import make_cityscapes
    from det_datasets.practice import run_command

    text = "Write a tiny dataset in Cityscapes' layout: coloured shapes that are called persons, cars, roads, ..."
    return run_command(argv, "cityscapes", text, make_cityscapes)
