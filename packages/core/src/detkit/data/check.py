"""Looking through a dataset before training on it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from detkit.interfaces import Dataset
from detkit.ops.boxes import box_sides

_THREADS = 8  # decoding releases Python's lock
_TINY = 2.0  # pixels
_ASIDE = 5.0  # pixels that a side of a box may be away from its outline


@dataclass
class Report:
    """What `check` found: counts, and every image that cannot be read with the reason."""

    images: int = 0
    negatives: int = 0
    crowds: int = 0
    tiny: int = 0
    aside: int = 0
    without_mask: int = 0
    objects: dict[str, int] = field(default_factory=dict)
    smallest: tuple[int, int] = (0, 0)
    largest: tuple[int, int] = (0, 0)
    problems: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def check(dataset: Dataset, progress: Callable[[], None] | None = None) -> Report:
    """Read every image and its annotations.

    Args:
        dataset: what to look through.
        progress: called after each image.
    """
    report = Report(images=len(dataset), problems=dict(dataset.problems))
    counts = torch.zeros(len(dataset.categories), dtype=torch.int64)
    sizes = sorted((dataset.size(index) for index in range(len(dataset))), key=lambda size: size[0] * size[1])
    if sizes:
        report.smallest, report.largest = sizes[0], sizes[-1]

    def read(index: int) -> dict[str, Any] | str:
        try:
            return dataset[index].target
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(_THREADS) as pool:
        for target in pool.map(read, range(len(dataset))):
            if isinstance(target, str):
                report.unreadable.append(target)
            else:
                _count(target, report, counts)
            if progress is not None:
                progress()
    report.objects = dict(zip(dataset.categories.names, counts.tolist(), strict=True))
    return report


def _count(target: dict[str, Any], report: Report, counts: Tensor) -> None:
    boxes, crowd = target["boxes"].as_subclass(Tensor), target["crowd"]
    report.negatives += len(boxes) == 0
    report.crowds += int(crowd.sum())
    report.tiny += int((torch.stack(box_sides(boxes)).amin(dim=0) < _TINY).sum())
    report.without_mask += int((~target["has_mask"]).sum()) if "has_mask" in target else 0
    if "polygons" in target and boxes.shape[1] == 4:
        outlined = target["polygons"].present
        away = (boxes - target["polygons"].clipped().boxes()).abs().amax(dim=1)
        report.aside += int((outlined & (away > _ASIDE)).sum())
    counts += torch.bincount(target["labels"][~crowd], minlength=len(counts))
