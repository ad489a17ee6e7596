"""`detkit data make objects365`."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run the command with these arguments; its exit status."""
    from det_datasets.objects365.make import make_objects365
    from det_datasets.practice import run_command

    text = "Write a tiny dataset of coloured shapes in Objects365's layout."
    return run_command(argv, "objects365", text, make_objects365)
