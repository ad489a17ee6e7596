"""What can be wrong with a dataset, and keeping account of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

LISTED = 1000
"""How many places of one problem are kept; all are counted."""


@dataclass(frozen=True)
class Problem:
    """One sort of problem.

    Args:
        level: "error" if the data cannot be trained on or measured correctly as it is, "warning" if readers repair it
            or if it may be meant so.
        text: what is wrong, in the plural.
        fix: what a corrected copy does about it; "" for nothing.
    """

    level: Literal["error", "warning"]
    text: str
    fix: str = ""


def _error(text: str, fix: str = "") -> Problem:
    return Problem("error", text, fix)


def _warning(text: str, fix: str = "") -> Problem:
    return Problem("warning", text, fix)


PROBLEMS: Mapping[str, Problem] = MappingProxyType(
    {
        "annotations": _error("annotations that cannot be read"),
        "image-entry": _error("malformed entries of images", "completed from the file, or left out"),
        "image-id": _error("image ids that are given twice", "the later image gets a new id, without annotations"),
        "image-missing": _error("images that are not there", "left out"),
        "image-unreadable": _error("images that cannot be decoded", "left out"),
        "image-size": _error("images of another size than annotated", "the size is that of the file"),
        "pixels": _error("images whose labels of pixels cannot be read", "left out"),
        "category-entry": _error("malformed entries of categories", "left out"),
        "category-id": _error("category ids that are given twice", "the first is kept"),
        "category-name": _error("category names that are given twice", "made one"),
        "category-unknown": _error("annotations of categories that are not defined", "left out"),
        "annotation-entry": _error("malformed annotations", "completed, or left out"),
        "annotation-id": _error("annotation ids that are given twice", "the later gets a new id"),
        "number": _error("annotations with numbers that are not finite", "removed, a box taken from the mask"),
        "box-malformed": _error("boxes that are not four or five numbers", "taken from the mask, or left out"),
        "box-empty": _error("boxes without area", "taken from the mask, or left out"),
        "box-outside": _error("boxes outside their image", "taken from the mask, or left out"),
        "box-none": _error("annotations with neither a usable box nor a usable mask", "left out"),
        "mask-malformed": _error("masks that are malformed", "corrected, or removed"),
        "mask-empty": _error("masks without a pixel", "removed"),
        "area": _error("areas that make no sense", "computed"),
        "crowd": _error("iscrowd that is neither 0 nor 1", "0 or 1"),
        "image-turned": _warning("images with an EXIF orientation, annotated as they are stored: not turned"),
        "image-twice": _warning("files that are listed twice", "made one image"),
        "image-same": _warning("images with the same pixels as another one"),
        "image-leak": _warning("images with the same pixels as one of another split", "left out of train"),
        "image-unknown": _warning("annotations of images that are not listed", "left out"),
        "category-unused": _warning("categories without annotations"),
        "annotation-number": _warning("annotations without an id", "numbered"),
        "box-missing": _warning("annotations without a box", "taken from the mask"),
        "box-cut": _warning("boxes that reach out of their image", "cut"),
        "box-tiny": _warning("boxes of less than 2 pixels in width or height"),
        "box-aside": _warning("boxes more than 5 pixels away from the outline of their object"),
        "polygon-points": _warning("polygons of fewer than 3 points", "removed"),
        "polygon-flat": _warning("polygons without area", "removed"),
        "polygon-outside": _warning("polygons outside their image", "removed"),
        "polygon-cut": _warning("polygons that reach out of their image", "cut"),
        "mask-missing": _warning("objects without a mask, among others that have one"),
        "area-missing": _warning("annotations without an area", "computed"),
        "keypoints": _warning("malformed keypoints", "removed"),
        "reader": _warning("what the reader noticed, and what it does about it"),
    }
)
"""Every problem that `detkit data check` tells apart, by the code that its JSON has."""

UNUSED = "categories without annotations"
"""How what a reader says of unused categories begins; the check has a code of its own for them."""


class SeveralErrors(ValueError):
    """Several things that are wrong with a dataset, which its reader found before it gave up; `detkit data check` lists
    all of them.

    Args:
        messages: what is wrong; one at least.
    """

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__(tuple(messages))
        self.messages = tuple(messages)

    def __str__(self) -> str:
        first, count = self.messages[0], len(self.messages)
        return f"{first} (the first of {count} errors; `detkit data check` lists them)" if count > 1 else first


@dataclass(frozen=True)
class Finding:
    """One place where something is wrong."""

    text: str
    image: int | str | None = None  # the dataset's own ids
    annotation: int | None = None

    def to_dict(self) -> dict[str, Any]:
        named = {"text": self.text, "image": self.image, "annotation": self.annotation}
        return {key: value for key, value in named.items() if value is not None}


class Findings:
    """What was found in a split: how often each problem, and the first places of each."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.places: dict[str, list[Finding]] = {}

    def add(
        self, code: str, text: str, *, image: int | str | None = None, annotation: int | None = None, count: int = 1
    ) -> None:
        """Note a problem of `PROBLEMS`; `count` times, if `text` speaks of so many places."""
        self.counts[code] = self.counts.get(code, 0) + count
        places = self.places.setdefault(code, [])
        if len(places) < LISTED:
            places.append(Finding(text, image, annotation))

    def __iter__(self) -> Iterator[tuple[str, Problem, int]]:
        """(code, problem, how often), errors first, in the order of `PROBLEMS`."""
        for code, problem in PROBLEMS.items():
            if code in self.counts:
                yield code, problem, self.counts[code]

    @property
    def errors(self) -> int:
        """How many places are wrong, warnings aside."""
        return sum(count for _, problem, count in self if problem.level == "error")

    @property
    def warnings(self) -> int:
        return sum(self.counts.values()) - self.errors

    def to_list(self) -> list[dict[str, Any]]:
        """For JSON; see the guide."""
        return [
            {
                "code": code,
                "level": problem.level,
                "text": problem.text,
                "fix": problem.fix or None,
                "count": count,
                "places": [place.to_dict() for place in self.places[code]],
            }
            for code, problem, count in self
        ]
