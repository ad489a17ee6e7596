"""YOLO's folders of text files."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from det_datasets.annotated import AnnotatedImages
from det_datasets.arrays import count_problem, cut, make_columns
from det_datasets.cache import Annotations, cached
from det_datasets.columns import taken
from det_datasets.headers import read_sizes
from det_datasets.quads import rotated_boxes
from det_datasets.yolo import config
from det_datasets.yolo.config import TASKS, YoloConfig
from det_datasets.yolo.labels import Lines, guess_task
from detkit.data.stores.store import local_folder
from detkit.structures.categories import Categories

log = logging.getLogger(__name__)

_SLACK = 0.01  # pixels over the border that come from rounding to six digits


class YoloDataset(AnnotatedImages):
    """Images with a text file each, a line for an object: its class from 0, and shares of the image's width and height:

        boxes           centre x, centre y, width, height
        outlines        x, y of each point
        keypoints       a box, then x, y, or x, y, visibility, of each
        oriented boxes  x, y of four corners

    as Ultralytics' YOLO and Darknet have them. Only data is read: what a data.yaml says of a download is not run. Its
    datasets, such as coco8.zip, come with the licences of the data that they were made of; Ultralytics' program, which
    is AGPL-3.0, is not used.

    Images are called as their files, or by the path where names repeat; ids of classes are from 0. An image without
    text file has no objects. Boxes are cut at the border, empty ones left out; oriented ones become rotated boxes, the
    least around the corners. Sizes are those in the images' headers. Coordinates of keypoints are taken as those of
    boxes, without half a pixel's difference.

    Args:
        source: the folder, or a YAML file.
        split: train, val or test.
        task: detect, segment, pose or obb (oriented boxes). "auto" is what data.yaml says (`task`, `kpt_shape`), else
            what the lines look like; see `guess_task`.
        sigmas: how exact keypoints are, one number for each, for evaluation; COCO's persons have COCO's.

    Raises:
        ValueError: the folder, a split or all labels are missing, or a line makes no sense, which the message names.
    """

    layout: ClassVar[str] = config.LAYOUT

    def __init__(
        self, source: Path, split: str = "train", task: str = "auto", sigmas: Sequence[float] | None = None
    ) -> None:
        if task not in ("auto", *TASKS):
            raise ValueError(f"task is {task!r}; it can be auto, {', '.join(TASKS)}")
        found = config.find_config(local_folder(source))
        if found is None:
            raise ValueError(f"{source} is no dataset in YOLO's format; looked for {config.LAYOUT}")
        if split not in found.splits:
            raise ValueError(
                f"{found.file} has no split {split!r} whose images exist; it has: {', '.join(found.splits)}"
            )
        images = list(dict.fromkeys(config.find_images(found.root, found.splits[split])))
        if not images:
            raise ValueError(f"there are no images in {', '.join(map(str, found.splits[split]))}")
        labels = [path if os.path.isfile(path) else None for path in map(config.label_path, images)]
        if not any(labels) and split != "test":
            raise ValueError(f"no image has labels; the first ones were looked for in {config.label_path(images[0])}")
        chosen = (found.task or "auto") if task == "auto" else task
        annotations = cached(
            partial(_read, found, images, labels, chosen, sigmas),
            reader="yolo 1",
            sources=[found.file],
            watched=[*images, *filter(None, labels)],
            arguments={"task": chosen, "sigmas": None if sigmas is None else list(sigmas)},
        )
        self.task: str = annotations.extra["task"]
        super().__init__(
            source=found.file,
            images=found.root,
            columns=annotations.columns,
            categories=annotations.categories,
            problems=annotations.problems,
        )

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        found = config.find_config(path)
        return None if found is None else {name: {"source": path, "split": name} for name in found.splits}


def _read(
    found: YoloConfig, images: list[str], paths: list[str | None], task: str, sigmas: Sequence[float] | None
) -> Annotations:
    problems: Counter[str] = Counter()
    sizes = read_sizes(images)
    lines = Lines(paths, len(found.categories), problems)
    if task == "auto":
        try:
            task = guess_task(lines, sizes)
        except ValueError as error:
            raise ValueError(f"{found.file}: {error}") from None
        if task == "obb":
            log.warning("%s: lines of eight numbers are read as oriented boxes; `task` says otherwise", found.file)
    count_problem(problems, "images have no text file: they have no objects", paths.count(None))
    categories = found.categories
    if task != "pose":
        categories = Categories(categories.names, categories.ids)
    elif categories.keypoints is None:
        raise ValueError(f"{found.file} does not say how many keypoints there are; add `kpt_shape: [NUMBER, 3]`")
    elif sigmas is not None:
        categories = replace(categories, keypoints=replace(categories.keypoints, sigmas=tuple(sigmas)))
    root = f"{found.root}{os.sep}"
    builder = _Builder(lines, sizes, problems)
    columns = make_columns(
        image_ids=_ids(images, found.root),
        names=[path.removeprefix(root) for path in images],
        sizes=sizes,
        **builder.of_task(task, len(categories.keypoints or ()), found.dimensions),
    )
    return Annotations(columns, categories, problems, {"task": task})


def _ids(images: list[str], root: Path) -> list[str]:
    """The names of files without their ending, if no two are the same; else their paths."""
    stems = [os.path.splitext(os.path.basename(path))[0] for path in images]
    if len(set(stems)) == len(stems):
        return stems
    paths = [os.path.splitext(os.path.relpath(path, root))[0] for path in images]
    return paths if len(set(paths)) == len(paths) else [os.path.relpath(path, root) for path in images]


class _Builder:
    """What `make_columns` wants of lines, of images of these sizes (I, 2)."""

    def __init__(self, lines: Lines, sizes: NDArray[np.int32], problems: Counter[str]) -> None:
        self._lines = lines
        self._sizes = sizes[lines.images]  # (A, 2)
        self._scale = self._sizes[:, ::-1].astype(np.float64)  # (A, 2) width, height
        self._problems = problems

    def of_task(self, task: str, keypoints: int, dimensions: int) -> dict[str, Any]:
        if task == "obb":
            return self._oriented()
        if task == "pose":
            return self._pose(keypoints, dimensions)
        return self._outlines(keep=task == "segment")

    def _all(self) -> NDArray[np.intp]:
        return np.arange(len(self._lines.sizes))

    def _oriented(self) -> dict[str, Any]:
        lines, rows = self._lines, self._all()
        lines.require_sizes(lines.sizes == 8, "an oriented box has eight, x and y of four corners")
        given = lines.table(rows, 8)
        lines.require_shares(rows, np.abs(given).max(axis=1))
        boxes = rotated_boxes(given.reshape(-1, 4, 2) * self._scale[:, None])
        kept = (boxes[:, 2:4].astype(np.float32) > 0).all(axis=1)
        count_problem(self._problems, "objects have an empty box: left out", (~kept).sum())
        return {"images": lines.images[kept], "labels": lines.labels[kept], "boxes": boxes[kept]}

    def _pose(self, keypoints: int, dimensions: int) -> dict[str, Any]:
        lines, rows, width = self._lines, self._all(), 4 + keypoints * dimensions
        wanted = f"a box and {keypoints} keypoints of {dimensions} numbers (kpt_shape) are {width}"
        lines.require_sizes(lines.sizes == width, wanted)
        boxes, kept = self._upright(rows)
        given = lines.table(rows, width)[:, 4:].reshape(-1, keypoints, dimensions)
        lines.require_shares(rows, np.abs(given[..., :2]).max(axis=(1, 2)))
        points = np.zeros((len(rows), keypoints, 3))
        points[..., :2] = given[..., :2] * self._scale[:, None]
        points[..., 2] = given[..., 2] if dimensions == 3 else 2 * (given[..., :2] != 0).any(axis=-1)
        for row in np.flatnonzero(~np.isin(points[..., 2], (0, 1, 2)).all(axis=1))[:1]:
            raise ValueError(f"{lines.place(row)}: the visibility of a keypoint is 0, 1 or 2")
        points[points[..., 2] == 0] = 0
        return {
            "images": lines.images[kept],
            "labels": lines.labels[kept],
            "boxes": boxes[kept],
            "keypoints": points[kept],
        }

    def _outlines(self, *, keep: bool) -> dict[str, Any]:
        """Boxes, given or around outlines; the outlines too, if they are to be kept."""
        lines = self._lines
        drawn = (lines.sizes >= 6) & (lines.sizes % 2 == 0)
        wanted = "a box has four, an outline x and y of at least three points"
        lines.require_sizes((lines.sizes == 4) | drawn, wanted)
        boxes = np.zeros((len(lines.sizes), 4))
        plain, rows = np.flatnonzero(~drawn), np.flatnonzero(drawn)
        boxes[plain] = self._upright_of(plain)
        points = taken(lines.numbers, lines.starts[rows], lines.sizes[rows]).reshape(-1, 2)
        counts = lines.sizes[rows] // 2
        if len(rows):
            starts = np.cumsum(counts) - counts
            lines.require_shares(rows, np.maximum.reduceat(np.abs(points), starts).max(axis=1))
            points = points * np.repeat(self._scale[rows], counts, axis=0)
            boxes[rows, :2] = np.minimum.reduceat(points, starts)
            boxes[rows, 2:] = np.maximum.reduceat(points, starts)
        boxes, kept = cut(boxes, self._sizes, self._problems, _SLACK)
        found = {"images": lines.images[kept], "labels": lines.labels[kept], "boxes": boxes[kept]}
        if keep:
            found |= {"points": points[np.repeat(kept[rows], counts)], "ring_sizes": (drawn * lines.sizes // 2)[kept]}
        return found

    def _upright(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return cut(self._upright_of(rows), self._sizes[rows], self._problems, _SLACK)

    def _upright_of(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """The boxes (n, 4) xyxy of lines that begin with one."""
        given = self._lines.table(rows, 4)
        self._lines.require_shares(rows, np.abs(given).max(axis=1, initial=0.0))
        centres, extents = given[:, :2] * self._scale[rows], given[:, 2:] * self._scale[rows]
        return np.concatenate((centres - extents / 2, centres + extents / 2), axis=1)
