"""Where PASCAL VOC's files are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from det_datasets.voc.classes import LABEL_MAP

LAYOUT = (
    "Annotations/*.xml, ImageSets/Main/{train,val,trainval,test}.txt and JPEGImages/*.jpg (a year: VOC2007, ...), or "
    "VOCdevkit/ or a folder with VOC2007/, VOC2012/, ... in it"
)
_SPLITS = ("train", "val", "trainval", "test")


def find_splits(folder: Path) -> Mapping[str, Mapping[str, Any]] | None:
    """Split -> arguments of a folder in the layout of `LAYOUT`; None if it is not. No image is in two of them."""
    if _is_year(folder):
        there = [name for name in _SPLITS if _list(folder, name).is_file()]
        halves = {"train", "val"} <= set(there)  # trainval is both
        return {name: {"folder": folder, "split": name} for name in there if name != "trainval" or not halves} or None
    devkit = folder / "VOCdevkit" if (folder / "VOCdevkit").is_dir() else folder
    years = find_years(devkit)
    of = {name: [year for year in years if _list(year, name).is_file()] for name in _SPLITS}
    tests = [year for year in of["test"] if _annotated(year, "test")]
    if tests:
        # As everybody does: train on trainval of 2007 and 2012, measure on the test set of 2007, which has answers.
        parts = {"train": ("trainval", of["trainval"]), "val": ("test", tests)}
    else:
        parts = {name: (name, of[name]) for name in ("train", "val", "test")}
        if not (of["train"] and of["val"]):
            parts = {"trainval": ("trainval", of["trainval"]), **parts}
    return {
        name: {"folder": devkit, "split": split, "years": [year.name for year in chosen]}
        for name, (split, chosen) in parts.items()
        if chosen
    } or None


def find_years(devkit: Path) -> list[Path]:
    """The years in a folder, in order."""
    return [path for path in sorted(devkit.glob("VOC*")) if _is_year(path)]


def choose_years(folder: Path, years: Sequence[str] | None) -> list[Path]:
    """The folders of years: `folder` itself if it is one, else those of the years in it that are asked for.

    Raises:
        ValueError: there are none.
    """
    if _is_year(folder):
        return [folder]
    found = find_years(folder) if years is None else [folder / year for year in years]
    missing = [path for path in found if not _is_year(path)]
    if missing or not found:
        raise ValueError(f"{missing[0] if missing else folder} is no folder of VOC's; looked for {LAYOUT}")
    return found


def read_list(year: Path, kind: str, split: str) -> list[str]:
    """The images of a set; `kind` is Main or Segmentation.

    Raises:
        ValueError: there is no such set, or nothing in it.
    """
    path = year / "ImageSets" / kind / f"{split}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        there = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))[:8]) or "none"
        raise ValueError(f"cannot read the set of images {path}: {error.strerror}; there are: {there}") from None
    names = [line.split()[0] for line in lines if line.strip()]
    if not names:
        raise ValueError(f"{path} lists no images")
    return names


def label_map(folder: Path, years: Sequence[Path]) -> Path | None:
    """The file that names other classes than VOC's, if there is one."""
    return next((place / LABEL_MAP for place in (folder, *years) if (place / LABEL_MAP).is_file()), None)


def _is_year(folder: Path) -> bool:
    return (folder / "JPEGImages").is_dir() and (folder / "ImageSets").is_dir()


def _list(year: Path, split: str) -> Path:
    return year / "ImageSets" / "Main" / f"{split}.txt"


def _annotated(year: Path, split: str) -> bool:
    """Whether the first image of a set has an annotation; the test sets after 2007 have none."""
    return (year / "Annotations" / f"{read_list(year, 'Main', split)[0]}.xml").is_file()
