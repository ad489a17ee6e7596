"""`detkit data make coco-stuff`."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run the command with these arguments; its exit status."""
    from det_datasets.practice import run_command
    from det_datasets.semantic.make import make_coco_stuff

    text = "Write a tiny dataset of textured ground in the layout of COCO's stuff download."
    return run_command(argv, "coco-stuff", text, make_coco_stuff)
