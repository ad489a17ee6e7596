"""`detkit data make webdataset`."""

from __future__ import annotations

from pathlib import Path

from det_datasets.practice import run_command


def main(argv: list[str]) -> int:
    """Run the command with these arguments; its exit status."""
    text = "Write tar shards in WebDataset's layout, with pictures of shapes and their COCO annotations."
    return run_command(argv, "webdataset", text, make_webdataset)


def make_webdataset(out: Path, *, shard_size: int = 5, **options: int) -> None:
    """Write a tiny dataset in WebDataset's layout.

    Args:
        out: folder to write.
        shard_size: images in a shard.
        options: see `write_practice`.
    """
    from det_datasets.practice import write_practice
    from det_datasets.webdataset.writer import WebDatasetWriter

    write_practice(WebDatasetWriter(shard_size), out, **options)  # type: ignore[arg-type]
