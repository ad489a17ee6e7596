"""How long a run is, in steps and in epochs, and what to tell a person about it at the start."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from detkit.engine.options import Train
from detkit.engine.precision import resolved
from detkit.engine.processes import Processes
from detkit.engine.run import Run
from detkit.interfaces import Dataset

_MANY_CLASSES = 8  # names that are listed


class Length:
    """The numbers of a run.

    Args:
        options: the section `train`.
        images: of an epoch: those of the training set, unless a sampler repeats or leaves out some.
    """

    def __init__(self, options: Train, images: float) -> None:
        self._options = options
        self._images = images
        self.steps_per_epoch = images / options.batch_size
        if options.steps is not None:
            self.steps = options.steps
        else:
            assert options.epochs is not None
            self.steps = max(1, math.ceil(options.epochs * self.steps_per_epoch - 1e-9))
        scale = 1.0 if options.lr_batch_size is None else options.batch_size / options.lr_batch_size
        self.lr = options.optimizer.lr * scale
        self.evaluate_every = self._period(options.eval_every, self.steps)
        self.save_every = self._period(options.save_every, min(self.steps, 10_000))

    def _period(self, given: int | Literal["epoch"] | None, steps: int) -> int:
        if given == "epoch":
            return max(1, round(self.steps_per_epoch))
        return math.ceil(steps / 10) if given is None else given

    def check(self, processes: int) -> None:
        """ValueError unless a batch can be divided among the processes."""
        options = self._options
        if options.batch_size % (processes * options.accumulate):
            accumulated = f" x train.accumulate {options.accumulate}" if options.accumulate > 1 else ""
            wanted = processes * options.accumulate
            near = max(wanted, round(options.batch_size / wanted) * wanted)
            raise ValueError(
                f"train.batch_size {options.batch_size} cannot be divided among {processes} processes{accumulated}; "
                f"take a multiple of {wanted}, such as {near}"
            )

    def describe(self, run: Run, training: Dataset, validation: Dataset | None, processes: Processes) -> Iterator[str]:
        """The run in words."""
        options = self._options
        parameters = sum(parameter.numel() for parameter in run.model.parameters())
        trained = sum(parameter.numel() for parameter in run.model.parameters() if parameter.requires_grad)
        pixels = training.semantic_categories
        of_pixels = f"; of pixels, {_listed(pixels.names)}" if pixels is not None else ""
        held_out = f", {len(validation)} for validation" if validation is not None else ""
        where = (
            f"{processes.count} processes, each on {processes.device.type}" if processes.count > 1 else processes.device
        )
        frozen = f", {_count(parameters - trained)} of them frozen" if trained < parameters else ""
        precision = resolved(options.precision, processes.device)
        yield f"model: {_count(parameters)} parameters{frozen}, on {where}, {precision}"
        sampled = "" if self._images == len(training) else f", {self._images:.0f} in an epoch"
        yield f"data: {len(training)} images{sampled}{held_out}; {_listed(training.categories.names)}{of_pixels}"
        parts = f" (in {options.accumulate} parts)" if options.accumulate > 1 else ""
        epochs = self.steps / self.steps_per_epoch
        yield f"length: {self.steps} steps of {options.batch_size} images{parts} = {epochs:.3g} epochs"
        scaled = ""
        if self.lr != options.optimizer.lr:
            scaled = (
                f" ({options.optimizer.lr:g} for {options.lr_batch_size} images, scaled to {options.batch_size}; "
                "train.lr_batch_size=null keeps it)"
            )
        yield f"learning rate: {self.lr:g}{scaled}"
        evaluating = f"evaluating every {self.evaluate_every}, " if validation is not None else ""
        yield f"{evaluating}saving every {self.save_every} steps into {run.folder}"

    def warnings(self, training: Dataset, validation: Dataset | None) -> Iterator[str]:
        """Settings that are allowed and probably not meant."""
        options, half = self._options, self.steps // 2
        if options.schedule.factor(half, self.steps) < options.schedule.factor(half + 1, self.steps):
            yield (
                f"half of the {self.steps} steps pass before the learning rate is warmed up; shorten it with "
                "train.schedule.warmup"
            )
        if options.batch_size > len(training):
            yield f"a batch of {options.batch_size} holds some of the {len(training)} training images more than once"
        if validation is None:
            yield "the data has no split 'val': nothing is evaluated, and there is no best model"
        elif options.patience is not None and self.steps <= self.evaluate_every:
            yield "train.patience has no effect: there is one evaluation, at the end"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MANY_CLASSES} more" if len(names) > _MANY_CLASSES else ""
    return f"{len(names)} classes: {', '.join(names[:_MANY_CLASSES])}{more}"


def _count(number: int) -> str:
    """44401393 as "44.4 million"."""
    return f"{number / 1e6:.1f} million" if number >= 1e5 else str(number)
