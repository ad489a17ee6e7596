"""Looking through a dataset before training on it."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from detkit.data.image import decode_image
from detkit.data.problems import UNUSED, Findings, SeveralErrors
from detkit.data.source import Openable, Split
from detkit.data.subset import Subset
from detkit.interfaces import Dataset
from detkit.ops.boxes import box_sides
from detkit.plugins import registry

TINY = 2.0  # pixels
ASIDE = 5.0  # pixels that a side of a box may be away from its outline
TRAIN = "train"
_THREADS = 8  # decoding releases Python's lock
_AHEAD = 64  # images that are read before they are asked for: memory does not grow with the dataset
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass
class ClassCount:
    """How often a class occurs."""

    name: str
    id: int
    objects: int = 0
    crowds: int = 0
    images: int = 0


@dataclass
class SplitReport:
    """What was found in one split: counts, and all that is wrong."""

    name: str
    reader: str
    images: int = 0  # that can be used
    negatives: int = 0  # of them, without annotations
    classes: list[ClassCount] = field(default_factory=list)
    smallest: tuple[int, int] = (0, 0)  # height, width
    largest: tuple[int, int] = (0, 0)
    findings: Findings = field(default_factory=Findings)
    digests: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    """Position of an image in the split -> what it is called, and a digest of its pixels."""

    def note_sizes(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Find the smallest and the largest of (height, width)."""
        ordered = sorted(sizes, key=lambda size: size[0] * size[1])
        if ordered:
            self.smallest, self.largest = ordered[0], ordered[-1]

    def note_unused(self) -> None:
        """Find classes without objects, if there are objects at all."""
        if any(each.objects or each.crowds for each in self.classes):
            for each in self.classes:
                if not each.objects and not each.crowds:
                    self.findings.add("category-unused", each.name)

    def note_same(self) -> None:
        """Find images with the same pixels."""
        first: dict[bytes, str] = {}
        for called, digest in self.digests.values():
            if digest in first:
                self.findings.add("image-same", f"{called} is {first[digest]}")
            first.setdefault(digest, called)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; see the guide."""
        return {
            "reader": self.reader,
            "images": self.images,
            "negatives": self.negatives,
            "smallest": dict(zip(("height", "width"), self.smallest, strict=True)),
            "largest": dict(zip(("height", "width"), self.largest, strict=True)),
            "classes": [vars(each) for each in self.classes],
            "errors": self.findings.errors,
            "warnings": self.findings.warnings,
            "problems": self.findings.to_list(),
        }


class SourceCheck(ABC):
    """A look through the files of one split that tells everything that is wrong, not the first thing alone."""

    @abstractmethod
    def run(self, report: SplitReport, progress: Callable[[int, int], None]) -> None:
        """Fill in a report; `progress` is called with (images seen, images in all)."""

    @abstractmethod
    def corrected(self, scratch: Path, leave_out: Collection[int]) -> Dataset:
        """After `run`: the split without what is wrong, and without the images at these positions.

        Args:
            scratch: folder for files that the dataset needs as long as it is used.
            leave_out: positions as in `SplitReport.digests`.

        Raises:
            ValueError: nothing is left.
        """

    def others(self) -> Mapping[str, Any]:
        """Arguments of the reader that a corrected copy is to be opened with, too, as the split was; paths are
        absolute. Besides those of what is written into the copy, which are none of these."""
        return {}


class OpenedCheck(SourceCheck):
    """A look through the samples of a dataset, for formats without a check of their own."""

    def __init__(self, split: Openable) -> None:
        self._split = split
        self._dataset: Dataset | None = None
        self._good: list[int] = []

    def run(self, report: SplitReport, progress: Callable[[int, int], None]) -> None:
        try:
            dataset = self._dataset = self._split.open()
        except ValueError as error:
            for text in error.messages if isinstance(error, SeveralErrors) else (str(error),):
                report.findings.add("annotations", text)
            return
        for text, count in dataset.problems.items():
            if UNUSED not in text:
                report.findings.add("reader", f"{count} {text}", count=count)
        names = zip(dataset.categories.names, dataset.categories.ids, strict=True)
        report.classes = [ClassCount(name, id) for name, id in names]
        seen = Counter[Any]()
        for index, found in enumerate(ordered(lambda index: _read(dataset, index), range(len(dataset)))):
            progress(index + 1, len(dataset))
            if isinstance(found, str):
                report.findings.add(_code(dataset, index), found)
                continue
            target, info, digest = found
            if seen[info["image_id"]]:
                report.findings.add("image-id", f"{info['path']}", image=info["image_id"])
            seen[info["image_id"]] += 1
            self._good.append(index)
            report.digests[index] = (info["path"], digest)
            _count(target, info, report)
        report.images = len(self._good)
        report.note_sizes(dataset.size(index) for index in self._good)
        report.note_unused()
        report.note_same()

    def corrected(self, scratch: Path, leave_out: Collection[int]) -> Dataset:
        if self._dataset is None:
            raise ValueError("its annotations cannot be read, so that there is nothing to correct")
        kept = [index for index in self._good if index not in leave_out]
        if not kept:
            raise ValueError("none of its images can be used")
        return Subset(self._dataset, kept)


def check(
    splits: Mapping[str, Openable], progress: Callable[[str, int, int], None] | None = None
) -> tuple[dict[str, SplitReport], dict[str, SourceCheck]]:
    """Look through splits, and for images that several of them have.

    Args:
        splits: as `find_splits` finds them.
        progress: called with (split, images seen, images in all).

    Returns:
        of each split the report, and what made it, which can correct it.
    """
    reports, checks = {}, {}
    for name, split in splits.items():
        checks[name] = look = _check_of(split)
        reports[name] = report = SplitReport(name, split.reader if isinstance(split, Split) else "mixture")

        def note(done: int, total: int, name: str = name) -> None:
            if progress is not None:
                progress(name, done, total)

        look.run(report, note)
        if not report.findings.errors and not isinstance(look, OpenedCheck):
            try:  # what the reader sees besides, in its other arguments, say
                split.open()
            except ValueError as error:
                report.findings.add("annotations", str(error))
    for name, leaks in leaks_of(reports).items():
        for position, others in leaks.items():
            called, _ = reports[name].digests[position]
            reports[name].findings.add("image-leak", f"{called} is {', '.join(others)}")
    return reports, checks


def leaks_of(reports: Mapping[str, SplitReport]) -> dict[str, dict[int, list[str]]]:
    """Split -> position of an image -> the images of other splits with the same pixels. Where train is among the
    splits, the images are counted there alone; else in the later of two splits."""
    where: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    found: dict[str, dict[int, list[str]]] = {}
    for name in sorted(reports, key=lambda name: name == TRAIN):  # train last, so that all others are known
        found[name] = {
            position: [f"{called} of {split}" for split, called in where[digest]]
            for position, (_, digest) in reports[name].digests.items()
            if digest in where
        }
        for called, digest in reports[name].digests.values():
            where[digest].append((name, called))
        # an image that is twice in one split is no leak: only splits before this one were looked up
    return {name: leaks for name, leaks in found.items() if leaks}


def _check_of(split: Openable) -> SourceCheck:
    own = None
    if isinstance(split, Split):
        own = registry().load("dataset", split.reader).source_check(split.arguments)
    return OpenedCheck(split) if own is None else own


def ordered(function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """`map` in threads that run a little ahead, not through all items at once."""
    waiting: deque[Future[_R]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@dataclass(frozen=True)
class Seen:
    """An image file: (height, width) as it is shown and as it is stored, and a digest of its pixels."""

    size: tuple[int, int]
    stored: tuple[int, int]
    digest: bytes


def look_at(data: bytes, place: str) -> Seen:
    """Decode an image file. ValueError naming the place if that cannot be done."""
    image = decode_image(data, place)
    height, width = image.shape[1:]
    with Image.open(io.BytesIO(data)) as header:
        stored = (header.height, header.width)
    return Seen((height, width), stored, digest_of(image))


def digest_of(image: Tensor) -> bytes:
    """Of the pixels (3, H, W) uint8: the same for files that differ in what else they say."""
    pixels = image.as_subclass(Tensor).permute(1, 2, 0).contiguous().numpy()
    return hashlib.blake2b(pixels.data, digest_size=16, salt=f"{pixels.shape[0]}x{pixels.shape[1]}".encode()).digest()


def _read(dataset: Dataset, index: int) -> tuple[dict[str, Any], dict[str, Any], bytes] | str:
    try:
        sample = dataset[index]
    except ValueError as error:
        return str(error)
    return sample.target, sample.info, digest_of(sample.image)


def _code(dataset: Dataset, index: int) -> str:
    """What is wrong with a sample that could not be read."""
    try:
        place = dataset.place(index)
    except ValueError:
        return "image-unreadable"
    code = "image-missing"
    try:
        data = dataset.encoded(index)
        code = "image-unreadable"
        decode_image(data, place)
        code = "image-size"
        decode_image(data, place, dataset.size(index))
    except ValueError:
        return code
    return "pixels"


def _count(target: dict[str, Any], info: Mapping[str, Any], report: SplitReport) -> None:
    boxes, crowd, labels = target["boxes"].as_subclass(Tensor), target["crowd"], target["labels"]
    report.negatives += len(boxes) == 0
    for label, is_crowd in zip(labels.tolist(), crowd.tolist(), strict=True):
        report.classes[label].objects += not is_crowd
        report.classes[label].crowds += is_crowd
    for label in set(labels.tolist()):
        report.classes[label].images += 1
    where = {"image": info["image_id"]}
    for code, found in {
        "box-tiny": torch.stack(box_sides(boxes)).amin(dim=0) < TINY,
        "box-aside": _aside(target, boxes),
        "mask-missing": ~target["has_mask"] if "has_mask" in target else torch.zeros(0, dtype=torch.bool),
    }.items():
        for row in torch.nonzero(found).flatten().tolist():
            name = report.classes[int(labels[row])].name
            report.findings.add(code, f"{name} number {row + 1} of {info['path']}", **where)


def _aside(target: Mapping[str, Any], boxes: Tensor) -> Tensor:
    """Which boxes (N,) are away from the outlines of their objects."""
    if "polygons" not in target or boxes.shape[1] != 4:
        return torch.zeros(0, dtype=torch.bool)
    away = (boxes - target["polygons"].clipped().boxes()).abs().amax(dim=1)
    return target["polygons"].present & (away > ASIDE)
