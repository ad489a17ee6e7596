"""`detkit data make voc`."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run the command with these arguments; its exit status."""
    from det_datasets.practice import run_command
    from det_datasets.voc.make import make_voc

    text = "Write a tiny dataset in PASCAL VOC's layout: coloured shapes that are called aeroplanes, bottles, ..."
    return run_command(argv, "voc", text, make_voc)
