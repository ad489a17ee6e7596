"""The classes of PASCAL VOC, and files that name others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

NAMES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
BACKGROUND = "background"
LABEL_MAP = "labelmap.txt"
"""Where there are other classes than VOC's: a line `name:r,g,b:parts:actions` for each, as annotation tools write."""


def colours(count: int = 256) -> list[int]:
    """The first colours of VOC's palette, red, green, blue, red, ...: bits of the label, dealt to the three channels,
    from the highest bit down."""
    found = []
    for label in range(count):
        for channel in range(3):
            found.append(sum(((label >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)))
    return found


def read_label_map(path: Path) -> tuple[str, ...]:
    """The names of classes in a file like `LABEL_MAP`, without the background.

    Raises:
        ValueError: it names none.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    names = [line.split(":", 1)[0].strip() for line in lines if line and not line.startswith("#")]
    found = tuple(name for name in names if name and name != BACKGROUND)
    if not found:
        raise ValueError(f"{path} names no classes; write a line `name:r,g,b::` for each")
    return found


def write_label_map(path: Path, names: Iterable[str]) -> None:
    """Write what `read_label_map` reads."""
    palette = colours()
    lines = ["# label:color_rgb:parts:actions"]
    for label, name in enumerate((BACKGROUND, *names)):
        colour = ",".join(str(value) for value in palette[3 * label % 768 :][:3])
        lines.append(f"{name}:{colour}::")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
