"""Evaluating a model on a dataset: predictions to metrics, and the losses on images that it was not trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from detkit.config import build
from detkit.data.loader import eval_loader
from detkit.detector import Detector, evaluating
from detkit.interfaces import Dataset, Evaluator
from detkit.ops.distributed import counts_of_this_process
from detkit.predict.tiles import predict_tiles
from detkit.structures.batch import UNLABELLED, Batch
from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction
from detkit.tiling import Tiling
from detkit.tta import Augmentation

if TYPE_CHECKING:
    from detkit.engine.processes import Processes


@torch.no_grad()
def evaluate(
    model: Detector,
    dataset: Dataset,
    evaluators: Sequence[Evaluator],
    *,
    batch_size: int = 1,
    workers: int = 2,
    losses: bool = False,
    tta: Augmentation | None = None,
    tile: Tiling | None = None,
    optimize: bool = True,
    processes: Processes | None = None,
) -> dict[str, dict[str, Any]]:
    """Predict every image of a dataset once and compute metrics.

    Several processes each take a part of the images; all must call this together.

    Args:
        model: does not change.
        evaluators: are started with this dataset; afterwards they hold all predictions, in the first process.
        batch_size: images at a time, in each process.
        workers: processes that load images, for each process.
        losses: also compute the mean losses, as the section "validation".
        tta: test-time augmentation: each image is seen in several views. Not together with `losses`.
        tile: each image is seen in overlapping tiles, `batch_size` at a time, and the answers are joined, so that
            metrics are those of whole images. Not together with `losses`.
        optimize: evaluate a copy in which norms are folded (`Detector.inference_copy`): faster, equal but for rounding.
        processes: those of the run, if there are several.

    Returns:
        Section ("bbox", "segm", "validation") -> metric -> value, the same in every process.

    Raises:
        ValueError: the model and the dataset have no class in common, or other classes and `losses` are asked for.
    """
    relabellings = relabellings_of(model, dataset)
    if losses and any(relabel.needed for relabel in relabellings):
        raise ValueError("validation losses need a dataset with the model's own classes, in their order")
    if losses and (tta or tile):
        raise ValueError("losses are of images as they are trained on: compute them without tta and tile")
    if optimize:
        model = model.inference_copy()
    rank, count = (0, 1) if processes is None else (processes.rank, processes.count)
    whole = tta is None and tile is None
    given = model.input if whole else replace(model.input, min_size=0)  # views and tiles are made of original images
    loader = eval_loader(
        dataset,
        given,
        batch_size=1 if tile else batch_size,
        workers=workers,
        rank=rank,
        world_size=count,
        masks=losses and model.learns_masks,
    )
    for evaluator in evaluators:
        evaluator.start(dataset)
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=model.device))
    images = 0
    with evaluating(model):
        for batch in loader:
            if tile is None:
                batch = batch.to(model.device, non_blocking=True)
            if losses:
                with counts_of_this_process():
                    for name, value in model.losses(batch).items():
                        sums[name] += value * len(batch)
                images += len(batch)
            for prediction, info in zip(_predictions(model, batch, tta, tile, batch_size), batch.info, strict=True):
                prediction = prediction.to("cpu")
                for relabel in relabellings:
                    prediction = relabel(prediction)
                for evaluator in evaluators:
                    evaluator.add(prediction, info)
    totals = {name: float(value) for name, value in sums.items()}
    if processes is None:
        return _metrics(evaluators, [(totals, images)] if losses else [])
    metrics = None
    states = processes.gather(([evaluator.state() for evaluator in evaluators], (totals, images)))
    if states:
        for index, evaluator in enumerate(evaluators):
            evaluator.merge(state[index] for state, _ in states)
        metrics = _metrics(evaluators, [part for _, part in states] if losses else [])
    shared: dict[str, dict[str, Any]] = processes.share(metrics)
    return shared


DIAGNOSIS = "diagnosis"
"""The evaluator that explains errors, for reports."""


def evaluators_for(
    model: Detector, dataset: Dataset, *, only: Sequence[str] | None = None, without: Sequence[str] = ()
) -> list[Evaluator]:
    """The dataset's own evaluators, those of them that measure what the model answers.

    Args:
        only: choose among these.
        without: not these.

    Raises:
        ValueError: there is none, of all.
    """
    found = []
    for name in dataset.evaluators:
        if name in without or (only is not None and name not in only):
            continue
        evaluator: Evaluator = build(name, Evaluator)
        if set(evaluator.needs) <= set(model.answers):
            found.append(evaluator)
    if not found and only is None:
        raise ValueError(
            f"{type(model).__name__} answers {', '.join(model.answers)}; none of the evaluators of this data, "
            f"{', '.join(dataset.evaluators)}, measures that; choose with evaluators=[NAME, ...], such as proposals"
        )
    return found


def _predictions(
    model: Detector, batch: Batch, tta: Augmentation | None, tile: Tiling | None, tiles_at_once: int
) -> Sequence[Prediction]:
    if tta is None and tile is None:
        found: Sequence[Prediction] = model(batch)
        return found
    sizes = [info["original_size"] for info in batch.info]
    images = [image[:, :height, :width] for image, (height, width) in zip(batch.images, sizes, strict=True)]
    if tile is not None:
        return [predict_tiles(model, image, tile, batch_size=tiles_at_once, tta=tta) for image in images]
    assert tta is not None
    return [model.predict_views(image, tta) for image in images]


class Relabelling:
    """From a model's classes to a dataset's, by name (upper and lower case alike): a model may know more classes than a
    dataset, or other ones.

    Predictions of classes that the dataset does not have are dropped, of segments the entries, not the pixels;
    `missing` are the classes that only the dataset has, whose objects the model cannot find.

    Raises:
        ValueError: there is no class in common.
    """

    def __init__(self, model: Categories, dataset: Categories) -> None:
        self.needed = model.names != dataset.names
        self.missing = tuple(name for name in dataset.names if model.label_like(name) is None)
        if len(self.missing) == len(dataset) > 0:
            raise ValueError(
                f"the model and the dataset have no class in common: {_listed(model.names)}; {_listed(dataset.names)}"
            )
        labels = [dataset.label_like(name) for name in model.names]
        self._labels = torch.tensor([-1 if label is None else label for label in labels])

    def __call__(self, prediction: Prediction) -> Prediction:
        """A prediction on the host with the dataset's labels."""
        self._relabel_segments(prediction, things=True)
        if not self.needed or "labels" not in prediction:
            return prediction
        labels = self._labels[prediction.labels]
        prediction.set("labels", labels)
        return prediction.select(labels >= 0)

    def _relabel_segments(self, prediction: Prediction, *, things: bool) -> None:
        """Change the labels of the segments that are things, or of those that are stuff."""
        if self.needed and "segments" in prediction:
            named = (
                {**segment, "label": int(self._labels[segment["label"]])} if segment["isthing"] is things else segment
                for segment in prediction.segments
            )
            prediction.set("segments", [segment for segment in named if segment["label"] >= 0])


class PixelRelabelling(Relabelling):
    """The same for classes of pixels: those that the dataset does not have become UNLABELLED, which is wrong wherever
    the ground truth has a label."""

    def __call__(self, prediction: Prediction) -> Prediction:
        """A prediction on the host with the dataset's labels of pixels."""
        self._relabel_segments(prediction, things=False)
        if self.needed and "semantic" in prediction:
            labels = self._labels[prediction.semantic]
            prediction.set("semantic", torch.where(labels < 0, UNLABELLED, labels))
        return prediction


def relabellings_of(model: Detector, dataset: Dataset) -> list[Relabelling]:
    """From a model's classes to a dataset's: of instances, unless the model labels pixels alone or does not tell them
    apart, and of pixels, if both have them.

    Raises:
        ValueError: there is no class in common.
    """
    found, pixels = [], model.semantic_categories
    if model.categories != pixels and model.classifies:
        found.append(Relabelling(model.categories, dataset.categories))
    if pixels is not None and dataset.semantic_categories is not None:
        found.append(PixelRelabelling(pixels, dataset.semantic_categories))
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _metrics(
    evaluators: Sequence[Evaluator], parts: Sequence[tuple[dict[str, float], int]]
) -> dict[str, dict[str, Any]]:
    """The sections of all evaluators, and the mean losses of the parts: (sums over images, number of images)."""
    metrics: dict[str, dict[str, Any]] = {}
    for evaluator in evaluators:
        for section, values in evaluator.compute().items():
            if section in metrics:
                raise ValueError(f"two evaluators report the section {section!r}; leave one of them out")
            metrics[section] = values
    if parts:
        images = sum(count for _, count in parts)
        names = next((totals for totals, count in parts if count), {})
        means = {name: sum(totals.get(name, 0.0) for totals, _ in parts) / images for name in names}
        metrics["validation"] = {"loss": sum(means.values()), **means}
    return metrics
