"""`detkit data make dota`."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run the command with these arguments; its exit status."""
    from det_datasets.dota.make import make_dota
    from det_datasets.practice import run_command

    text = "Write a tiny dataset in DOTA's layout: coloured shapes that are called planes, storage tanks, ..."
    return run_command(argv, "dota", text, make_dota)
