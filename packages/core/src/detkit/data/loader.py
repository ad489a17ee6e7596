"""Batches for training and for evaluation, prepared in worker processes."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from detkit.data.order import BatchOrder, seeds_of, wide_images
from detkit.data.targets import best_proposals, collate, cut_to_canvas, without_crowds
from detkit.data.transforms.mixing import apply_chain
from detkit.data.transforms.moving import resized
from detkit.interfaces import Dataset, Transform
from detkit.structures.batch import Batch
from detkit.structures.input_spec import InputSpec
from detkit.structures.sample import Sample

TRAINING_PROPOSALS, EVALUATION_PROPOSALS = 2000, 1000
"""At most this many proposals of an image are used, the best, where a dataset has them (as in Detectron2)."""

_SECONDS_TO_SAVE = 20


def train_loader(
    dataset: Dataset,
    transforms: Sequence[Transform],
    *,
    batch_size: int,
    divisor: int,
    seed: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
    start: int = 0,
    square: int = 0,
    masks: bool = True,
    repeats: NDArray[np.float64] | None = None,
) -> Generator[Batch]:
    """Batches of augmented images without end; `close` ends the workers.

    The stream depends on the seed and the position in it alone: not on the number of workers or processes, nor on where
    it was started. Transforms draw from torch's generator, which is seeded anew for every sample.

    Args:
        dataset: what is read.
        transforms: applied to each sample in order.
        batch_size: images in a batch of all processes together; this process gets its part of each batch.
        divisor: images are padded to multiples of this.
        seed: of order and augmentation.
        workers: processes that read; 0 reads in this one.
        rank: which of `world_size` processes this is.
        world_size: how many processes share each batch.
        start: batches that have been consumed already.
        square: images are padded to squares of at least this side; 0 lets them be rectangles.
        masks: whether targets have masks, where the dataset has; see `Detector.learns_masks`.
        repeats: (I,) how often each image comes in an epoch, see `repeats_of` of `detkit.data.samplers`; once each by
            default.

    Raises:
        ValueError: the batch cannot be split; later, an image cannot be read (the message names it).
    """
    if batch_size % world_size:
        raise ValueError(f"a batch of {batch_size} images cannot be split over {world_size} processes; use a multiple")
    order = BatchOrder(wide_images(dataset), batch_size, seed, repeats)
    share = batch_size // world_size
    tasks = _Tasks(order, seed, slice(rank * share, (rank + 1) * share), start)
    loader = _data_loader(_Preparation(dataset, _Training(dataset, transforms), divisor, square, masks), tasks, workers)
    return _raising(loader)


class EvalLoader:
    """Batches of images resized for a model, in order, each image once over all processes; `len` counts batches."""

    def __init__(self, preparation: _Preparation, tasks: list[list[_Task]], workers: int) -> None:
        self._preparation = preparation
        self._tasks = tasks
        self._workers = workers

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Batch]:
        return _raising(_data_loader(self._preparation, self._tasks, min(self._workers, len(self._tasks))))


def eval_loader(
    dataset: Dataset,
    input: InputSpec,
    *,
    batch_size: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
    masks: bool = True,
) -> EvalLoader:
    """Batches with targets (for validation losses) and `info` (image_id, path, original_size).

    Images are resized and padded as `input` says. Process `rank` of `world_size` gets its part of the
    images: parts differ in size by one image at most, and nothing is repeated to make them equal. `masks`: see
    `train_loader`.
    """
    images = range(rank, len(dataset), world_size)
    tasks = [
        [(images[place], (0, images[place])) for place in range(first, min(first + batch_size, len(images)))]
        for first in range(0, len(images), batch_size)
    ]
    preparation = _Preparation(dataset, _Resizing(input), input.divisor, input.square, masks)
    return EvalLoader(preparation, tasks, workers)


def augmented(dataset: Dataset, transforms: Sequence[Transform], index: int, seed: int) -> Sample:
    """An image as training sees it; the same each time for one seed."""
    return _Training(dataset, transforms)(dataset[index], seed)


_Task = tuple[int, tuple[int, int]]
"""The position of an image in the dataset, and the seeds of its transforms and of the model."""


class _Tasks:
    """This process's part of every batch from `start` on, as lists of tasks."""

    def __init__(self, order: BatchOrder, seed: int, part: slice, start: int) -> None:
        self.order = order
        self.seed = seed
        self.part = part
        self.start = start

    def __iter__(self) -> Iterator[list[_Task]]:
        size = self.order.batch_size
        for number, images in enumerate(self.order.batches(self.start), self.start):
            positions = range(number * size, (number + 1) * size)
            yield list(zip(images[self.part], seeds_of(self.seed, positions[self.part]), strict=True))


class _Training:
    """Augmentation of one sample. Partners for those transforms that mix several come from the whole dataset, all
    alike."""

    def __init__(self, dataset: Dataset, transforms: Sequence[Transform]) -> None:
        self.dataset = dataset
        self.transforms = tuple(transforms)

    def __call__(self, sample: Sample, seed: int) -> Sample:
        with torch.random.fork_rng(devices=()):
            torch.random.default_generator.manual_seed(seed)
            sample = apply_chain(self.transforms, without_crowds(sample), self._another)
        return best_proposals(cut_to_canvas(sample), TRAINING_PROPOSALS)

    def _another(self) -> Sample:
        return without_crowds(self.dataset[int(torch.randint(len(self.dataset), ()))])


class _Resizing:
    """What evaluation and prediction do to an image."""

    def __init__(self, input: InputSpec) -> None:
        self.input = input

    def __call__(self, sample: Sample, seed: int) -> Sample:
        size = self.input.resized(*sample.image.shape[-2:])
        sample = resized(without_crowds(sample), *size, antialias=self.input.antialias)
        sample = cut_to_canvas(sample)
        return best_proposals(sample, EVALUATION_PROPOSALS)


class _Preparation(torch.utils.data.Dataset[Any]):
    """Makes whole batches, in a worker."""

    def __init__(
        self, dataset: Dataset, prepare: _Training | _Resizing, divisor: int, square: int, masks: bool
    ) -> None:
        self.dataset = dataset
        self.prepare = prepare
        self.divisor = divisor
        self.square = square
        self.masks = masks

    def __getitems__(self, tasks: list[_Task]) -> Batch | ValueError:
        """One batch; an error that is for people is handed over as it is, where torch would wrap it in a traceback."""
        try:
            samples = [self.prepare(self.dataset[index], seeds[0]) for index, seeds in tasks]
        except ValueError as error:
            return ValueError(str(error))
        return collate(samples, [seeds[1] for _, seeds in tasks], self.divisor, self.square, masks=self.masks)


def _data_loader(preparation: _Preparation, tasks: Any, workers: int) -> DataLoader[Any]:
    return DataLoader(
        preparation,
        batch_sampler=tasks,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # its own, so that starting it does not draw from the global one
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(worker: int) -> None:
    """A signal to stop often goes to all processes of a job at once. The main process stops its workers when it has
    saved; until then it may need a batch, so a worker leaves by itself only some seconds later."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave_later)


def _leave_later(number: int, frame: FrameType | None) -> None:
    signal.alarm(_SECONDS_TO_SAVE)  # nobody handles the alarm, which ends the process


def _raising(loader: DataLoader[Any]) -> Generator[Batch]:
    for batch in loader:
        if isinstance(batch, ValueError):
            raise batch
        yield batch
