"""Folders that a writer of a format has filled: their splits, and a file that names these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detkit.data.source import Openable, Split, find_splits

DATA = "data.yaml"
"""The file in a folder that names its splits where the layout alone would not do."""


def written_splits(folder: Path) -> dict[str, Openable]:
    """Those of a folder that a reader knows, else of the data.yaml in it.

    Raises:
        ValueError: there is neither.
    """
    try:
        return find_splits(folder)
    except ValueError:
        if not (folder / DATA).is_file():
            raise
        return find_splits(folder / DATA)


def name_splits(folder: Path, others: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the data.yaml of a folder.

    Args:
        folder: that has been written; paths in it are named relative to it.
        others: split -> more arguments of its reader.
    """
    import yaml

    entries = {}
    for name, split in written_splits(folder).items():
        assert isinstance(split, Split)
        own = {key: _named(value, folder) for key, value in split.arguments.items()}
        entries[name] = {"name": split.reader, **own, **others.get(name, {})}
    (folder / DATA).write_text(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _named(value: Any, folder: Path) -> Any:
    if not isinstance(value, Path):
        return value
    return value.relative_to(folder).as_posix() if value.is_relative_to(folder) else str(value)
