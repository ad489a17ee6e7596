"""`detkit data make lvis`."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run the command with these arguments; its exit status."""
    from det_datasets.lvis.make import make_lvis
    from det_datasets.practice import run_command

    return run_command(argv, "lvis", "Write a tiny dataset of coloured shapes in LVIS's layout.", make_lvis)
