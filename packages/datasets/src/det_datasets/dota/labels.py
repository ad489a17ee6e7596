"""DOTA's classes, and the lines of its label files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

VERSIONS = {"1.0": 15, "1.5": 16, "2.0": 18}
"""How many of `NAMES` a version has."""

NAMES = (
    "plane",
    "baseball-diamond",
    "bridge",
    "ground-track-field",
    "small-vehicle",
    "large-vehicle",
    "ship",
    "tennis-court",
    "basketball-court",
    "storage-tank",
    "soccer-ball-field",
    "roundabout",
    "harbor",
    "swimming-pool",
    "helicopter",
    "container-crane",
    "airport",
    "helipad",
)
_HEADERS = ("imagesource", "gsd")


@dataclass(slots=True)
class DotaObject:
    """A line of a label file: x, y of four corners, the class, whether it is difficult."""

    corners: list[float]
    name: str
    difficult: bool


def read_labels(path: Path, problems: Counter[str]) -> list[DotaObject]:
    """The objects of an image; lines that repeat another are left out and counted.

    Raises:
        ValueError: the file is missing or a line makes no sense, which the message names.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the labels {path}: {getattr(error, 'strerror', None) or error}") from None
    found, seen = [], set()
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].partition(":")[0].lower() in _HEADERS:
            continue
        if line in seen:
            problems["lines repeat another one of the same image: left out"] += 1
            continue
        seen.add(line)
        try:
            corners = [float(value) for value in fields[:8]]
            difficult = int(fields[9]) if len(fields) == 10 else 0
        except ValueError:
            corners, difficult = [], 0
        if len(corners) < 8 or len(fields) not in (9, 10) or not all(map(math.isfinite, corners)):
            raise ValueError(f"{path}:{number}: {line!r}; x1 y1 x2 y2 x3 y3 x4 y4 class difficult are needed")
        found.append(DotaObject(corners, fields[8], difficult > 0))
    return found


def choose_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The classes of the first version that has all that are in these files. Those of later ones come last, so that
    labels are the same in all versions."""
    count = VERSIONS["1.0"]
    later = [(label, NAMES[label].encode()) for label in range(count, len(NAMES))]
    for path in paths:
        data = path.read_bytes()
        count = max([count, *(label + 1 for label, name in later if name in data)])
    return NAMES[: min(size for size in VERSIONS.values() if size >= count)]
