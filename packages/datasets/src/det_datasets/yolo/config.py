"""What a folder of YOLO's says of itself: its splits, classes and keypoints."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from detkit.data.image import IMAGE_SUFFIXES
from detkit.structures.categories import Categories
from detkit.structures.coco import PERSON_KEYPOINTS
from detkit.structures.keypoints import Keypoints

TASKS = ("detect", "segment", "pose", "obb")
"""Upright boxes, outlines, keypoints, oriented boxes, as Ultralytics calls them."""

LAYOUT = (
    "data.yaml (Ultralytics) with `names` and `train`, `val`, `test`, each a folder of images, several, or a text file "
    "that lists them; or classes.txt or *.names (Darknet) with images/train/, train/images/ or train.txt, val and test "
    "alike, or images/ alone. Labels are where /images/ is replaced by /labels/, else beside the images"
)
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_LOOKED_AT = 50  # images, for one with labels


@dataclass(frozen=True)
class YoloConfig:
    """A dataset before its images are looked for.

    file: what says so.
    root: the folder that paths are relative to.
    categories: with keypoints, where there are.
    splits: name -> folders and lists of images, which exist.
    task: one of `TASKS`; None if nothing is said.
    dimensions: numbers of each keypoint: 2 or 3.
    """

    file: Path
    root: Path
    categories: Categories
    splits: Mapping[str, tuple[Path, ...]]
    task: str | None = None
    dimensions: int = field(default=3)


def find_config(source: Path) -> YoloConfig | None:
    """The configuration of a folder, or in a file; None if it is none of YOLO's.

    Raises:
        ValueError: it is, and makes no sense.
    """
    files = [source] if source.is_file() else _yaml_files(source)
    for file in files:
        try:
            tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, OSError):
            continue
        if isinstance(tree, dict) and "names" in tree and any(_is_split(tree.get(name)) for name in _SPLITS):
            try:
                return _from_yaml(file, tree)
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from None
    return None if source.is_file() else _from_names(source)


def _yaml_files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))
    return sorted(files, key=lambda path: path.stem not in ("data", "dataset"))


def _is_split(entry: Any) -> bool:
    return bool(entry) and (isinstance(entry, str) or _is_list(entry))


def _is_list(entry: Any) -> bool:
    return isinstance(entry, list) and all(isinstance(each, str) for each in entry)


def _from_yaml(file: Path, tree: Mapping[str, Any]) -> YoloConfig:
    names = tree["names"]
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise ValueError(f"names has the keys {sorted(names, key=str)[:5]}...; 0, 1, 2, ... are needed")
        names = [names[label] for label in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ValueError(f"names is {names!r}; a list of names is needed, or a mapping from 0, 1, 2, ... to names")
    if tree.get("nc", len(names)) != len(names):
        raise ValueError(f"nc is {tree['nc']}, but there are {len(names)} names")
    task = tree.get("task")
    if task is not None and task not in TASKS:
        raise ValueError(f"task is {task!r}; it can be {', '.join(TASKS)}")
    keypoints, dimensions = _keypoints(tree)
    categories = Categories(tuple(map(str, names)), ids=tuple(range(len(names))), keypoints=keypoints)
    given = {
        _SPLITS[name]: [tree[name]] if isinstance(tree[name], str) else tree[name]
        for name in _SPLITS
        if _is_split(tree.get(name))
    }
    roots = _roots(file, str(tree.get("path") or "."))
    for root in roots:
        splits = {name: tuple(filter(None, (_place(root, entry) for entry in each))) for name, each in given.items()}
        if any(splits.values()):
            break
    else:
        entries = ", ".join(entry for each in given.values() for entry in each)
        raise ValueError(f"there is none of {entries} in {' or '.join(map(str, roots))}; correct `path`")
    for name, each in given.items():
        if splits[name] and len(splits[name]) < len(each):
            missing = next(entry for entry in each if _place(root, entry) is None)
            raise ValueError(f"{name} lists {missing}, which is not in {root}")
    found = {name: places for name, places in splits.items() if places}
    return YoloConfig(file, root, categories, found, task or ("pose" if keypoints else None), dimensions)


def _roots(file: Path, path: str) -> list[Path]:
    """Where the dataset may be: Ultralytics takes `path` as relative to a folder of all datasets."""
    folder, given = file.parent, Path(path).expanduser()
    return list(dict.fromkeys([folder / given, folder, folder.parent / given]))


def _place(root: Path, entry: str) -> Path | None:
    """A folder or list of images; Roboflow's `../train/images` lies beside data.yaml, too."""
    places = (root / Path(entry).expanduser(), root / entry.removeprefix("../"))
    return next((place for place in places if place.exists()), None)


def _keypoints(tree: Mapping[str, Any]) -> tuple[Keypoints | None, int]:
    """The keypoints, and how many numbers each has."""
    shape = tree.get("kpt_shape")
    if shape is None:
        return None, 3
    if not (isinstance(shape, list) and len(shape) == 2 and isinstance(shape[0], int) and shape[1] in (2, 3)):
        raise ValueError(f"kpt_shape is {shape!r}; [number of keypoints, 2 or 3] is needed")
    count, dimensions = shape
    order = tree.get("flip_idx") or list(range(count))
    if not isinstance(order, list) or any(
        not isinstance(other, int) or not 0 <= other < count or order[other] != index
        for index, other in enumerate(order)
    ):
        raise ValueError(f"flip_idx is {order!r}; for each of {count} keypoints the one that it changes places with")
    if len(order) != count:
        raise ValueError(f"flip_idx has {len(order)} entries, kpt_shape {count} keypoints")
    if count == len(PERSON_KEYPOINTS) and order == PERSON_KEYPOINTS.flipped:
        return PERSON_KEYPOINTS, dimensions
    names = tree.get("kpt_names") or [f"point {number}" for number in range(1, count + 1)]
    names = next(iter(names.values())) if isinstance(names, dict) else names  # those of the first class
    if not isinstance(names, list) or len(names) != count:
        raise ValueError(f"kpt_names is {names!r}; {count} names are needed")
    swaps = tuple((index, other) for index, other in enumerate(order) if index < other)
    return Keypoints(tuple(map(str, names)), swaps=swaps), dimensions


def _from_names(folder: Path) -> YoloConfig | None:
    """Darknet's way: a file with the names of classes, beside images and labels."""
    files = [folder / "classes.txt", folder / "labels" / "classes.txt", *sorted(folder.glob("*.names"))]
    file = next((path for path in files if path.is_file()), None)
    if file is None:
        return None
    names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    splits: dict[str, tuple[Path, ...]] = {}
    for name, split in _SPLITS.items():
        likely = (folder / "images" / name, folder / name / "images", folder / f"{name}.txt", folder / name)
        place = next((place for place in likely if place.exists()), None)
        if place is not None and split not in splits:
            splits[split] = (place,)
    if not splits:
        splits["train"] = (folder / "images" if (folder / "images").is_dir() else folder,)
    places = tuple(place for each in splits.values() for place in each)
    if not names or not any(_has_labels(folder, place) for place in places):
        return None
    try:
        return YoloConfig(file, folder, Categories(tuple(names), ids=tuple(range(len(names)))), splits)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _has_labels(root: Path, place: Path) -> bool:
    images = (path for _, path in zip(range(_LOOKED_AT), find_images(root, [place]), strict=False))
    return any(os.path.isfile(label_path(path)) for path in images)


def find_images(root: Path, places: list[Path] | tuple[Path, ...]) -> Iterator[str]:
    """The files of images in folders, below them, and in lists, in order."""
    for place in places:
        if place.is_dir():
            for folder, folders, files in os.walk(place):
                folders.sort()
                for name in sorted(files):
                    if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                        yield os.path.join(folder, name)
        else:
            yield from _listed(root, place)


def _listed(root: Path, file: Path) -> Iterator[str]:
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    base = str(root)
    if lines and (lines[0].startswith("./") or not os.path.exists(os.path.join(root, lines[0]))):
        base = str(file.parent)
    for line in lines:
        yield os.path.normpath(os.path.join(base, line))


def label_path(image: str) -> str:
    """Where the labels of an image are."""
    before, found, after = image.rpartition(f"{os.sep}images{os.sep}")
    return os.path.splitext(f"{before}{os.sep}labels{os.sep}{after}" if found else image)[0] + ".txt"
