"""How often training sees each image: samplers, for `train.sampler` of a config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.mixture import Mixture
from detkit.interfaces import Dataset, Sampler

_LISTED = 5  # names or ids in a message


def repeats_of(dataset: Dataset, sampler: Sampler | None) -> NDArray[np.float64]:
    """How often each image comes in an epoch, on average: (I,) float64. In a mixture with weights the sampler decides
    within each member, and the weights on what all images of a member come to together.

    Raises:
        ValueError: the dataset lacks what the sampler needs.
    """
    repeats = np.ones(len(dataset)) if sampler is None else sampler.repeats(dataset)
    return dataset.weighted(repeats) if isinstance(dataset, Mixture) else repeats


class RepeatFactor(Sampler):
    """Repeats images of rare classes (Gupta, Dollar, Girshick, 2019, "LVIS: a dataset for large vocabulary instance
    segmentation").

    A class that occurs in a share f of the images has the factor max(1, sqrt(threshold / f)); an image is repeated as
    often as the rarest of its classes says, and once if it has no objects. An epoch is as long as all repeats together.

    Args:
        threshold: classes that occur in a smaller share of the images are repeated; LVIS takes 0.001.
        sqrt: take the root of the ratio; without it rare classes are repeated far more.
    """

    def __init__(self, *, threshold: float = 0.001, sqrt: bool = True) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold is {threshold}; a share of the images, above 0 and at most 1, is needed")
        self.threshold = threshold
        self.sqrt = sqrt

    def repeats(self, dataset: Dataset) -> NDArray[np.float64]:
        images, labels = labels_in_images(dataset)
        ratio = self.threshold * len(dataset) / image_counts(dataset, labels).clip(1)
        factors = np.maximum(1.0, np.sqrt(ratio) if self.sqrt else ratio)
        return _largest(factors[labels], images, len(dataset), otherwise=1.0)


class ClassBalanced(Sampler):
    """Shows all classes equally often: as if for each image a class were drawn first, and then one of the images in
    which it occurs (class-aware sampling: Shen, Lin, Huang, 2016, "Relay backpropagation for effective learning of deep
    convolutional neural networks").

    Images without objects come once in an epoch. An epoch is as long as the dataset: images of frequent classes are
    seen less than once in it.
    """

    def repeats(self, dataset: Dataset) -> NDArray[np.float64]:
        images, labels = labels_in_images(dataset)
        counts = image_counts(dataset, labels)
        drawn = np.bincount(images, weights=1.0 / counts[labels], minlength=len(dataset))  # sums to the classes
        occupied = drawn > 0
        return np.where(occupied, drawn * (occupied.sum() / max(1, np.count_nonzero(counts))), 1.0)


class Weighted(Sampler):
    """Shows images in proportion to weights. An epoch is as long as the dataset.

    Args:
        categories: class name -> weight; an image has the largest weight of its classes.
        file: a JSON file {image id: weight}, with the dataset's own ids; instead of `categories`.
        default: the weight of classes, and of images, that have none here, and of images without objects.
    """

    def __init__(
        self, *, categories: Mapping[str, float] | None = None, file: Path | None = None, default: float = 1.0
    ) -> None:
        if (categories is None) == (file is None):
            raise ValueError("give either `categories`, weights of classes, or `file`, weights of images")
        if default < 0 or any(weight < 0 for weight in (categories or {}).values()):
            raise ValueError("a weight below 0 makes no sense; 0 leaves images out")
        self.categories = categories
        self.file = file
        self.default = default

    def repeats(self, dataset: Dataset) -> NDArray[np.float64]:
        weights = self._of_classes(dataset) if self.file is None else self._of_file(dataset, self.file)
        total = weights.sum()
        if not 0 < total < np.inf:
            raise ValueError(f"the weights of {len(dataset)} images sum to {total}; some image must have one above 0")
        return weights * (len(dataset) / total)

    def _of_classes(self, dataset: Dataset) -> NDArray[np.float64]:
        of_class = np.full(len(dataset.categories), self.default)
        for name, weight in (self.categories or {}).items():
            label = dataset.categories.label_like(name)
            if label is None:
                known = ", ".join(dataset.categories.names[:_LISTED])
                raise ValueError(f"there is a weight for {name!r}, and the data has no such class; it has {known}, ...")
            of_class[label] = weight
        images, labels = labels_in_images(dataset)
        return _largest(of_class[labels], images, len(dataset), otherwise=self.default)

    def _of_file(self, dataset: Dataset, file: Path) -> NDArray[np.float64]:
        given = _read(file)
        if not isinstance(given, dict) or not all(
            type(value) in (int, float) and value >= 0 for value in given.values()
        ):
            raise ValueError(f"{file} must hold one JSON object: {{image id: weight from 0 on}}")
        positions = positions_of(dataset, given, str(file))
        weights = np.full(len(dataset), self.default)
        weights[positions] = list(given.values())
        return weights


class Subset(Sampler):
    """Shows a part of the images alone. An epoch is as long as the part.

    Args:
        fraction: of the images, drawn at random.
        count: of images, drawn at random.
        images: ids of the images, or a file with them: a JSON list, or text with an id in each line.
        with_objects: those that have objects, crowds among them, as Detectron2 trains unless it is told otherwise.
            Images without are negatives, which teach a detector what to leave alone: by default they are shown.
        seed: of the draw; that of training does not change it.
    """

    def __init__(
        self,
        *,
        fraction: float | None = None,
        count: int | None = None,
        images: Sequence[int | str] | Path | None = None,
        with_objects: bool = False,
        seed: int = 0,
    ) -> None:
        if sum(given is not None for given in (fraction, count, images, with_objects or None)) != 1:
            raise ValueError("give one of `fraction`, `count`, `images` and `with_objects`")
        if fraction is not None and not 0 < fraction <= 1:
            raise ValueError(f"fraction is {fraction}; it must be above 0 and at most 1")
        if count is not None and count < 1:
            raise ValueError(f"count is {count}; at least 1 image is needed")
        self.fraction, self.count, self.images, self.with_objects = fraction, count, images, with_objects
        self.seed = seed

    def repeats(self, dataset: Dataset) -> NDArray[np.float64]:
        repeats = np.zeros(len(dataset))
        repeats[self._chosen(dataset)] = 1.0
        return repeats

    def _chosen(self, dataset: Dataset) -> NDArray[np.int64]:
        if self.images is not None:
            file = self.images if isinstance(self.images, Path) else None
            ids = self.images if not isinstance(self.images, Path) else _read_ids(self.images)
            return positions_of(dataset, ids, str(file or "images"))
        if self.with_objects:
            found: NDArray[np.int64] = np.unique(dataset.all_labels()[0].numpy())
            if not len(found):
                raise ValueError(f"none of {len(dataset)} images has objects; leave out `with_objects`")
            return found
        count = max(1, int(len(dataset) * self.fraction)) if self.fraction is not None else self.count
        assert count is not None
        if count > len(dataset):
            raise ValueError(f"a subset of {count} images is asked for, of {len(dataset)}")
        return np.random.default_rng(self.seed).permutation(len(dataset))[:count]


def labels_in_images(dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(image position, label) of each class in each image, once however many objects there are of it."""
    images, labels = (column.numpy() for column in dataset.all_labels())
    classes = len(dataset.categories)
    pairs = images * classes + labels
    if len(dataset) * classes < 2**32:
        pairs = pairs.astype(np.uint32)  # which is sorted in half the time
    pairs.sort()
    new = np.ones(len(pairs), bool)
    new[1:] = pairs[1:] != pairs[:-1]
    pairs = pairs[new]
    return (pairs // classes).astype(np.int64), (pairs % classes).astype(np.int64)


def frequencies(dataset: Dataset) -> list[float]:
    """In how many images each class occurs, as a list of plain numbers for losses that weigh classes."""
    return [float(count) for count in image_counts(dataset)]


def image_counts(dataset: Dataset, labels: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """(C,) in how many images each class occurs. `labels` are those of `labels_in_images`, where they are at hand."""
    if labels is None:
        _, labels = labels_in_images(dataset)
    return np.bincount(labels, minlength=len(dataset.categories))


def positions_of(dataset: Dataset, ids: Sequence[Any] | Mapping[str, Any], source: str) -> NDArray[np.int64]:
    """The positions of images with these ids; numbers may be given as text, as the keys of JSON are.

    Raises:
        ValueError: the dataset does not have some of them, or one is given twice; `source` says where.
    """
    known = {str(dataset.image_id(index)): index for index in range(len(dataset))}
    wanted = [str(id) for id in ids]
    if strangers := [id for id in wanted if id not in known]:
        raise ValueError(
            f"{source}: {len(strangers)} of {len(wanted)} images are not in the dataset: "
            + ", ".join(strangers[:_LISTED])
        )
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"{source}: an image is listed twice; list each once")
    return np.array([known[id] for id in wanted], np.int64)


def _largest(
    values: NDArray[np.float64], images: NDArray[np.int64], count: int, *, otherwise: float
) -> NDArray[np.float64]:
    """The largest of the values of each of `count` images."""
    found = np.full(count, -np.inf)
    np.maximum.at(found, images, values)
    return np.where(np.isneginf(found), otherwise, found)


def _read_ids(file: Path) -> list[Any]:
    if file.suffix != ".json":
        try:
            return file.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read {file}: {error}") from None
    ids = _read(file)
    if not isinstance(ids, list):
        raise ValueError(f"{file} must hold a JSON list of image ids")
    return ids


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
