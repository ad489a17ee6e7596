"""Prediction on files and on images in memory: read ahead, resize, batch, run the model, filter."""

from __future__ import annotations

import difflib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from detkit.detector import Detector, evaluating
from detkit.ops.boxes import scale_boxes
from detkit.predict.sources import Source, find_sources, is_single
from detkit.predict.tiles import predict_tiles
from detkit.structures.batch import Batch
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.prediction import Prediction
from detkit.tiling import Tiling
from detkit.tta import Augmentation

_READERS = 2  # threads that decode and resize while the model computes


def predict(
    model: Detector,
    source: Any,
    *,
    score_threshold: float = -math.inf,
    labels: Sequence[str | int] | None = None,
    batch_size: int = 1,
    tta: Augmentation | bool = False,
    tile: Tiling | int | None = None,
    proposals: Any = None,
    optimize: bool = True,
) -> Prediction | list[Prediction]:
    """Predict for one image or many.

    Args:
        model: on the device where it shall run. It is put in evaluation mode for the time of the call.
        source: a path, a folder, a pattern, an array (H, W, 3) uint8 RGB, a PIL image, a tensor (3, H, W) uint8 RGB, or
            a list of them.
        score_threshold: instances below are left out, beyond those that the model's own threshold leaves out.
        labels: names or labels of the classes to keep; all by default.
        batch_size: images that run together. They are padded to one size, so that an answer can change in the last
            digits with its neighbours; more than 1 pays on a GPU.
        tta: test-time augmentation: one answer from several views of each image, slower and better. True is
            `Augmentation()`: three sizes, each also mirrored.
        tile: large images are seen in overlapping tiles of this many pixels, each as if it were an image, and the
            answers joined; a number is `Tiling(size=NUMBER)`, with an overlap of 200. `batch_size` counts tiles; masks
            are `detkit.structures.placed_masks.PlacedMasks`. See `detkit.predict.tiles.predict_tiles`.
        proposals: for a model that makes none of its own (Fast R-CNN): the pair (boxes, scores) of one image, boxes
            (N, 4) in its pixels and scores (N,) logits, or a list of such pairs, one for each image.
        optimize: predict with a copy in which norms are folded (`Detector.inference_copy`): faster, equal but for
            rounding. A single image is not worth a copy: to predict many one by one, call `model.optimize()` before.

    Returns:
        One `Prediction` for one image, a list for a folder, a pattern or a list; on the CPU, in the pixels of the
        upright original image, `path` set where it comes from a file.

    Raises:
        ValueError: there is no such image, it cannot be read, or an option does not suit the model.
    """
    if proposals is not None and is_single(source):
        proposals = [proposals]
    pairs = stream(
        model,
        source,
        score_threshold=score_threshold,
        labels=labels,
        batch_size=batch_size,
        tta=tta,
        tile=tile,
        proposals=proposals,
        optimize=optimize and not is_single(source),
    )
    predictions = [prediction for _, prediction in pairs]
    return predictions[0] if is_single(source) else predictions


def stream(
    model: Detector,
    source: Any,
    *,
    score_threshold: float = -math.inf,
    labels: Sequence[str | int] | None = None,
    batch_size: int = 1,
    tta: Augmentation | bool = False,
    tile: Tiling | int | None = None,
    proposals: Sequence[tuple[Any, Any]] | None = None,
    optimize: bool = True,
    on_unreadable: Callable[[Source, ValueError], None] | None = None,
) -> Iterator[tuple[Tensor, Prediction]]:
    """Like `predict`, one image after the other, so that any number of them fits into memory.

    Args:
        proposals: (boxes, scores) of each image, in the order of the images.
        on_unreadable: called for an image that cannot be read, which is then left out; by default the error is raised.

    Returns:
        An iterator over the upright original images (3, H, W) uint8 RGB, each with its prediction.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; at least 1 is needed")
    wanted = None if labels is None else torch.tensor(_labels(labels, model.categories), dtype=torch.int64)
    sources: Iterable[Source] = find_sources(source)
    if proposals is not None:
        sources = list(sources)
        if len(sources) != len(proposals):
            raise ValueError(f"{len(sources)} images but {len(proposals)} pairs of proposals; give one for each image")
    augmentation = Augmentation() if tta is True else tta or None
    tiling = Tiling(size=tile) if isinstance(tile, int) else tile
    if proposals is not None and (augmentation or tiling):
        raise ValueError("proposals are of the image as it is: predict from them without tta and tile")
    if optimize:
        model = model.inference_copy()
    if augmentation is None and tiling is None:
        images = _read_ahead(sources, model.input, 2 * batch_size, on_unreadable, proposals)
        return _by_batches(model, images, batch_size, score_threshold, wanted)

    def answer(image: Tensor) -> Prediction:
        if tiling is not None:
            return predict_tiles(
                model, image, tiling, batch_size=batch_size, score_threshold=score_threshold, tta=augmentation
            )
        assert augmentation is not None
        with evaluating(model), torch.no_grad():
            return model.predict_views(image.to(model.device), augmentation, score_threshold=score_threshold)

    return _one_by_one(answer, _read_ahead(sources, None, 2, on_unreadable, None), wanted)


@dataclass(frozen=True)
class _Image:
    original: Tensor  # (3, H, W) uint8 RGB
    resized: Tensor  # as the model's input asks, or as it is
    path: str | None
    proposals: dict[str, Tensor] | None = None  # in pixels of `resized`


def _one_by_one(
    answer: Callable[[Tensor], Prediction], images: Iterator[_Image], wanted: Tensor | None
) -> Iterator[tuple[Tensor, Prediction]]:
    for image in images:
        found = answer(image.original)
        found.path = image.path
        yield image.original, _of_labels(found.to("cpu"), wanted)


def _by_batches(
    model: Detector, images: Iterator[_Image], batch_size: int, score_threshold: float, wanted: Tensor | None
) -> Iterator[tuple[Tensor, Prediction]]:
    while chunk := list(islice(images, batch_size)):
        info = [{"original_size": tuple(image.original.shape[1:]), "path": image.path} for image in chunk]
        proposals = [image.proposals for image in chunk if image.proposals is not None]
        batch = Batch.collate(
            [image.resized for image in chunk],
            divisor=model.divisor,
            info=info,
            proposals=proposals or None,
            square=model.input.square,
        )
        for image, prediction in zip(chunk, _answers(model, batch, score_threshold), strict=True):
            yield image.original, _of_labels(prediction.to("cpu"), wanted)


def _answers(model: Detector, batch: Batch, score_threshold: float) -> list[Prediction]:
    with evaluating(model), torch.no_grad():  # not inference_mode: its tensors cannot be changed in place afterwards
        return model.predictions(batch.to(model.device), score_threshold=score_threshold)


def _of_labels(prediction: Prediction, wanted: Tensor | None) -> Prediction:
    if wanted is None or "labels" not in prediction:
        return prediction
    return prediction.select(torch.isin(prediction.labels, wanted))


def _read_ahead(
    sources: Iterable[Source],
    input: InputSpec | None,
    ahead: int,
    on_unreadable: Callable[[Source, ValueError], None] | None,
    proposals: Sequence[tuple[Any, Any]] | None,
) -> Iterator[_Image]:
    """Decode and, if there is an `input`, resize in threads, in order, at most `ahead` images before they are asked
    for."""

    def prepare(source: Source, given: tuple[Any, Any] | None) -> _Image:
        original = source.read()
        if input is None:
            return _Image(original, original, source.path)
        size = input.resized(*original.shape[1:])
        resized = F.resize(original, list(size), antialias=input.antialias)
        found = None if given is None else _scaled(given, (size[0] / original.shape[1], size[1] / original.shape[2]))
        return _Image(original, resized, source.path, found)

    waiting: deque[tuple[Source, Future[_Image]]] = deque()
    pairs = zip(sources, repeat(None) if proposals is None else proposals, strict=False)
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="read-image")
    try:
        while True:
            for source, given in islice(pairs, ahead - len(waiting)):
                waiting.append((source, pool.submit(prepare, source, given)))
            if not waiting:
                return
            source, future = waiting.popleft()
            try:
                image = future.result()
            except ValueError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(source, error)
            else:
                yield image
    finally:  # also where the caller stops early
        pool.shutdown(cancel_futures=True)


def _scaled(given: tuple[Any, Any], scale: tuple[float, float]) -> dict[str, Tensor]:
    """Proposals in pixels of the resized image."""
    boxes, scores = (torch.as_tensor(value, dtype=torch.float32) for value in given)
    return {"proposals": scale_boxes(boxes, scale[1], scale[0]), "proposal_scores": scores}


def _labels(wanted: Sequence[str | int], categories: Categories) -> list[int]:
    found: list[int] = []
    for entry in [wanted] if isinstance(wanted, str) else wanted:
        label = categories.label_of_name(entry) if isinstance(entry, str) else entry
        if label is None or not 0 <= label < len(categories):
            near = difflib.get_close_matches(str(entry), categories.names, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(categories.names)}"
            raise ValueError(f"the model has no class {entry!r}; {hint}")
        found.append(label)
    return found
