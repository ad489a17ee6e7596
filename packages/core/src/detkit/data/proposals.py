"""Files of proposals that were computed beforehand, for a Fast R-CNN that is trained on them.

A `.npz` file, which `detkit predict --save proposals` and the evaluator `proposals` write, holds four arrays, and
perhaps a fifth:

    image_ids   (I,) int64, the dataset's own
    offsets     (I + 1,) int64: the proposals of image i are rows offsets[i] to offsets[i + 1]
    boxes       (P, 4) float32 x1, y1, x2, y2 in pixels of the original image
    scores      (P,) float32, the higher the better: objectness logits
    file_names  (I,) text, without folders

A `.pkl` file is Detectron2's: a dict of `ids`, `boxes`, `objectness_logits` (each a list with an entry for each image)
and `bbox_mode`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.atomic import whole_file
from detkit.foreign import read_foreign_pickle

_ARRAYS = ("image_ids", "offsets", "boxes", "scores")
_XYXY, _XYWH = 0, 1  # Detectron2's BoxMode
_OLD_KEYS = {"indexes": "ids", "scores": "objectness_logits"}  # of Detectron's files


@dataclass(frozen=True)
class ProposalTable:
    """The proposals of I images as a few long tensors, which loader processes share: P in all, each image's best first.

    Args:
        path: the file, for messages.
        image_ids: (I,) int64, rising.
        ends: (I,) int64: the proposals of an image are those up to here.
        boxes: (P, 4) float32 xyxy pixels, none of them empty.
        scores: (P,) float32.
        file_names: (I,) text, or None where the file has none.
    """

    path: Path
    image_ids: Tensor
    ends: Tensor
    boxes: Tensor
    scores: Tensor
    file_names: NDArray[np.str_] | None = None

    def of_image(self, image_id: int) -> tuple[Tensor, Tensor]:
        """Boxes (N, 4) and scores (N,) of an image.

        Raises:
            ValueError: the file does not have it.
        """
        row = int(torch.searchsorted(self.image_ids, image_id))
        if row == len(self.image_ids) or self.image_ids[row] != image_id:
            raise ValueError(f"{self.path} has no proposals for image {image_id}")
        return self._row(row)

    def of_file(self, name: str, count: int) -> tuple[Tensor, Tensor]:
        """The `count` best of an image file; where the table has no file names, the name must be the image's id.

        Raises:
            ValueError: the file of proposals does not have it, or has several of this name.
        """
        file = Path(name)
        if self.file_names is None:
            if not file.stem.isdecimal():
                raise ValueError(f"{self.path} has no file names, so {file.name} must be called by its id, as 139.jpg")
            boxes, scores = self.of_image(int(file.stem))
            return boxes[:count], scores[:count]
        rows = np.flatnonzero(self.file_names == file.name)
        if len(rows) != 1:
            raise ValueError(f"{self.path} has proposals for {len(rows) or 'no'} images called {file.name}, not for 1")
        boxes, scores = self._row(int(rows[0]))
        return boxes[:count], scores[:count]

    def require(self, image_ids: Iterable[int]) -> None:
        """Check that all of these images are there; one may have 0 proposals.

        Raises:
            ValueError: some are not.
        """
        known = set(self.image_ids.tolist())
        wanted = list(image_ids)
        if missing := [image_id for image_id in wanted if image_id not in known]:
            raise ValueError(
                f"{self.path} has no proposals for {len(missing)} of {len(wanted)} images, image {missing[0]} first; "
                "is it of another split?"
            )

    def _row(self, row: int) -> tuple[Tensor, Tensor]:
        start, end = int(self.ends[row - 1]) if row else 0, int(self.ends[row])
        return self.boxes[start:end], self.scores[start:end]


def read_proposals(path: Path) -> ProposalTable:
    """Read a file of proposals.

    Raises:
        ValueError: it cannot be read, or is not such a file.
    """
    if path.suffix not in (".npz", ".pkl"):
        raise ValueError(f"{path} is no file of proposals; .npz (detkit's) or .pkl (Detectron2's) is needed")
    try:
        arrays = _read_npz(path) if path.suffix == ".npz" else _from_detectron2(read_foreign_pickle(path))
        return _table(path, **arrays)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, zipfile.BadZipFile, EOFError) as error:
        message = str(error)
        raise ValueError(
            message if message.startswith(str(path)) else f"{path} is not a file of proposals: {message}"
        ) from error


def proposal_table(source: Path, data: Mapping[str, Any]) -> ProposalTable:
    """Proposals in the form of Detectron2's files: `ids`, `boxes`, `objectness_logits` of each image, and `bbox_mode`.

    Args:
        source: for messages.
        data: the lists.

    Raises:
        ValueError: they are not of this form.
    """
    return _table(source, **_from_detectron2(data))


def write_proposals(
    path: Path,
    image_ids: Sequence[int],
    boxes: Sequence[NDArray[np.float32]],
    scores: Sequence[NDArray[np.float32]],
    file_names: Sequence[str],
) -> None:
    """Write a `.npz` file, whole or not at all.

    Args:
        path: of the file.
        image_ids: of I images.
        boxes: (N, 4) xyxy pixels of each.
        scores: (N,) of each.
        file_names: of each, without folders.
    """
    offsets = np.cumsum([0, *(len(each) for each in boxes)], dtype=np.int64)
    with whole_file(path) as file:
        np.savez(
            file,
            image_ids=np.asarray(image_ids, np.int64),
            offsets=offsets,
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
            scores=np.concatenate([np.zeros(0, np.float32), *scores]),
            file_names=np.asarray(file_names, np.str_),
        )


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as file:
        if missing := [name for name in _ARRAYS if name not in file]:
            raise ValueError(f"it has no {', '.join(missing)}; it has {', '.join(file.files) or 'nothing'}")
        return {name: file[name] for name in (*_ARRAYS, "file_names") if name in file}


def _from_detectron2(data: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(data, Mapping):
        raise ValueError("there is no mapping in it")
    data = {_OLD_KEYS.get(key, key): value for key, value in data.items()}
    if missing := [key for key in ("ids", "boxes", "objectness_logits") if key not in data]:
        raise ValueError(f"it has no {', '.join(missing)}; it has {', '.join(map(str, data)) or 'nothing'}")
    counts = {key: len(data[key]) for key in ("ids", "boxes", "objectness_logits")}
    if len(set(counts.values())) > 1:
        raise ValueError(f"its lists differ in length: {counts}")
    mode = int(data.get("bbox_mode", _XYXY))
    if mode not in (_XYXY, _XYWH):
        raise ValueError(f"bbox_mode is {mode}; 0 (x1, y1, x2, y2) or 1 (x, y, width, height) is needed")
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(np.reshape(each, (-1, 4)) for each in data["boxes"])])
    if mode == _XYWH:
        boxes[:, 2:] += boxes[:, :2]
    scores = [np.zeros(0, np.float32), *(np.reshape(each, -1) for each in data["objectness_logits"])]
    if [len(each) for each in scores[1:]] != [len(each) for each in data["boxes"]]:
        raise ValueError("an image has not as many objectness_logits as boxes")
    return {
        "image_ids": np.array([int(id) for id in data["ids"]], np.int64),
        "offsets": np.cumsum([len(each) for each in scores], dtype=np.int64),
        "boxes": boxes,
        "scores": np.concatenate(scores),
    }


def _table(
    path: Path,
    *,
    image_ids: NDArray[Any],
    offsets: NDArray[Any],
    boxes: NDArray[Any],
    scores: NDArray[Any],
    file_names: NDArray[Any] | None = None,
) -> ProposalTable:
    images, count = len(image_ids), len(scores)
    if boxes.shape != (count, 4) or scores.ndim != 1:
        raise ValueError(f"boxes {boxes.shape} and scores {scores.shape}; (P, 4) and (P,) are needed")
    if image_ids.dtype.kind not in "iu" or len(np.unique(image_ids)) < images:
        raise ValueError("image_ids must be different whole numbers")
    if (
        offsets.shape != (images + 1,)
        or offsets.dtype.kind not in "iu"
        or offsets[0] != 0
        or offsets[-1] != count
        or (np.diff(offsets) < 0).any()
    ):
        raise ValueError(f"offsets must rise from 0 to {count}, {images + 1} of them, one more than images")
    if file_names is not None and (file_names.shape != (images,) or file_names.dtype.kind != "U"):
        raise ValueError(f"file_names {file_names.dtype} {file_names.shape}; text, one for each image, is needed")
    if not np.isfinite(boxes).all() or not np.isfinite(scores).all():
        raise ValueError("it holds numbers that are not finite")
    order = np.argsort(image_ids)
    rank = np.empty(images, np.int64)
    rank[order] = np.arange(images)
    rank_of_row = np.repeat(rank, np.diff(offsets))
    rows = np.lexsort((-scores, rank_of_row))  # stable: what ties keeps its order
    rows = rows[(boxes[rows, 2:] > boxes[rows, :2]).all(axis=1)]
    return ProposalTable(
        path,
        image_ids=torch.from_numpy(image_ids[order].astype(np.int64)),
        ends=torch.from_numpy(np.bincount(rank_of_row[rows], minlength=images).cumsum()),
        boxes=torch.from_numpy(boxes[rows].astype(np.float32)),
        scores=torch.from_numpy(scores[rows].astype(np.float32)),
        file_names=None if file_names is None else file_names[order],
    )
