"""Training a model as a config says: builds the parts of the loop, and runs it."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch

from detkit import plugins
from detkit.config import Config
from detkit.data.loader import train_loader
from detkit.data.mixture import Member, Mixture
from detkit.data.python_source import name_of, python_splits
from detkit.data.samplers import frequencies, repeats_of
from detkit.data.source import Openable, find_splits
from detkit.detector import Detector
from detkit.engine.checkpoint import Checkpoints
from detkit.engine.clipping import Clipping
from detkit.engine.finite import FiniteCheck
from detkit.engine.folder import begin, record
from detkit.engine.journal import Journal, Silence
from detkit.engine.length import Length
from detkit.engine.loop import Parts, train_until_done
from detkit.engine.meter import Meter
from detkit.engine.monitor import Monitor
from detkit.engine.moving_average import MovingAverage, TrainedWeights
from detkit.engine.options import Train
from detkit.engine.precision import autocast
from detkit.engine.processes import Processes, seed_everything
from detkit.engine.progress import Progress
from detkit.engine.run import Run
from detkit.engine.stop import StopRequest
from detkit.evaluation import evaluate
from detkit.interfaces import Dataset
from detkit.layers import memory_format
from detkit.model_directory import save_model
from detkit.structures.categories import Categories
from detkit.transfer import initialise


def train(
    config: Config,
    out: Path,
    *,
    data: Any = None,
    categories: Categories | Sequence[str] | None = None,
    resume: bool = False,
    init: str | Path | None = None,
    extend: float | None = None,
) -> Run:
    """Train, evaluate and save a model.

    In processes that torchrun started, all of them call this with the same arguments.

    Args:
        config: what to train, on what, and how.
        out: the run directory; must not hold anything yet, unless the run is resumed or extended.
        data: instead of the config's: anything that `detkit.data.python_source.python_splits` takes, such as a dataset
            or a list of dicts.
        categories: the names of the classes, where `data` are lists of dicts.
        resume: continue the run in `out` from its newest checkpoint, bit for bit; from the start if it has none yet.
            What is computed may not have changed in the config.
        init: a model to take weights from, instead of the config's `init`: a directory, a run, or the name of
            published weights.
        extend: train a finished run in `out` for this many more epochs (or steps, if its config counts in steps).

    Raises:
        ValueError: the config and the data, or the run directory, do not go together.
        Stopped: the run was asked to stop (SIGTERM), has saved and can be resumed.
        FloatingPointError: a loss or a gradient is not finite; names the images.
        OSError: something cannot be written; earlier checkpoints are intact.
    """
    if data is not None:
        config = Config.load({**config.tree, "data": name_of(data)})
    with Processes(config.get("train.device")) as processes, ExitStack() as closing:
        config, checkpoint = begin(config, out, processes, resume=resume, init=init, extend=extend)
        options = config.build("train")
        name = config.tree["data"]
        training, validation = _open(name, _splits(name) if data is None else python_splits(data, categories))
        repeats = repeats_of(training, options.sampler)
        length = Length(options, float(repeats.sum()))
        length.check(processes.count)
        _set_up_torch(options)
        seed_everything(options.seed)
        model = config.build(
            "model",
            categories=training.categories,
            semantic_categories=training.semantic_categories,
            class_frequencies=functools.partial(frequencies, training),
        ).train()
        model.to(processes.device, memory_format=memory_format(processes.device, gradients=True))  # as the images are
        progress = Progress(length.steps, length.steps_per_epoch, quiet=not processes.first)
        source = config.tree["init"]
        if source is not None and checkpoint is None:
            with processes.first_before_others():  # which need not download then
                report = initialise(model, source)
            progress.say(f"starting from {source}: {report}")
        weights = TrainedWeights(model) if options.ema is None else MovingAverage(model, options.ema)
        run = Run(
            folder=out,
            config=config,
            processes=processes,
            model=model,
            evaluated=weights.model,
            steps=length.steps,
            steps_per_epoch=length.steps_per_epoch,
        )
        optimizer = options.optimizer.build(model, length.lr)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        compiled: Any = (
            torch.compile(model) if options.compile else model
        )  # a module too, which torch's types do not say
        forward = processes.data_parallel(compiled)
        seed_everything(options.seed + processes.rank)  # weights are equal in all processes, dropout is not
        checkpoints = Checkpoints(run, optimizer, weights, list(options.callbacks), options.keep)
        if checkpoint is not None:
            before = checkpoints.restore(checkpoint)
            if before != processes.count:
                progress.warn(
                    f"the checkpoint is of {before} processes, these are {processes.count}: the same images in the "
                    "same order, but not the same bit for bit"
                )
            if extend is not None:
                _reopen(run)
            progress.say(f"continuing from {checkpoint.name} of {out}")
            if run.finished:
                progress.say(f"this run is finished (step {run.step}); --extend trains it for longer")
                return run
        batches = train_loader(
            training,
            config.build("transforms"),
            batch_size=options.batch_size // options.accumulate,
            divisor=model.divisor,
            square=model.input.square,
            masks=model.learns_masks,
            seed=options.seed,
            workers=options.workers,
            rank=processes.rank,
            world_size=processes.count,
            start=run.step * options.accumulate,
            repeats=repeats,
        )
        closing.callback(batches.close)  # else a process that is stopped waits for its workers when it ends
        record(run)
        journal = (
            Journal(out, config.tree, options.trackers, progress, step=run.step, evaluated_step=run.evaluated_step)
            if processes.first
            else Silence(progress)
        )
        closing.callback(journal.close)
        for line in length.describe(run, training, validation, processes):
            progress.say(line)
        for line in length.warnings(training, validation):
            progress.warn(line)
        parts = Parts(
            batches=batches,
            forward=forward,
            accumulate=options.accumulate,
            autocast=autocast(options.precision, processes.device),
            unsynchronized=getattr(forward, "no_sync", nullcontext),
            optimizer=optimizer,
            schedule=options.schedule,
            clip=Clipping(model.parameters(), norm=options.clip_norm, value=options.clip_value),
            weights=weights,
            finite=FiniteCheck(processes),
            meter=Meter(processes),
            monitor=Monitor(options.monitor, options.patience),
            journal=journal,
            checkpoints=checkpoints,
            stop=closing.enter_context(StopRequest(processes)),
            callbacks=options.callbacks,
            evaluate=_evaluation(run, validation, options),
            export=functools.partial(_export, run),
            log_every=options.log_every,
            evaluate_every=length.evaluate_every,
            save_every=length.save_every,
        )
        _observed(run, parts)
        return run


def _observed(run: Run, parts: Parts) -> None:
    """The loop, with callbacks and plugins told of its start and its end."""
    error: BaseException | None = None
    try:
        for callback in parts.callbacks:
            callback.on_start(run)
        plugins.run_started(run)
        train_until_done(run, parts)
    except BaseException as caught:
        error = caught
        raise
    finally:
        for callback in parts.callbacks:
            callback.on_finish(run, error)
        plugins.run_finished(run, error)


def _reopen(run: Run) -> None:
    if not run.finished:
        raise ValueError(f"the run in {run.folder} is not finished (step {run.step}); --resume finishes it")
    run.finished = False
    run.misses = 0


def _splits(data: str | None) -> Mapping[str, Openable]:
    if data is None:
        raise ValueError("the config names no data; give data=PATH, a folder or a YAML file that names the splits")
    return find_splits(data)


def _open(data: str, splits: Mapping[str, Openable]) -> tuple[Dataset, Dataset | None]:
    """The training images, and the validation images if there are any. `data` is what they are called."""
    if "train" not in splits:
        raise ValueError(f"{data} has no split 'train'; it has: {', '.join(splits)}")
    training = splits["train"].open()
    if len(training) == 0:
        raise ValueError(f"the split 'train' of {data} has no images; there is nothing to train on")
    if "val" not in splits:
        return training, None
    validation = splits["val"].open()
    if isinstance(training, Mixture) and validation.categories != training.categories:
        validation = Mixture([Member("val", validation)], categories=training.categories)
    if validation.categories.names != training.categories.names:
        raise ValueError(
            f"{data}: the splits have different classes; train has {', '.join(training.categories.names)}; "
            f"val has {', '.join(validation.categories.names)}"
        )
    if _names(validation) != _names(training):
        raise ValueError(
            f"{data}: the splits have different classes of pixels; train has {_names(training)}; "
            f"val has {_names(validation)}"
        )
    return training, validation


def _names(dataset: Dataset) -> str:
    return ", ".join(dataset.semantic_categories.names) if dataset.semantic_categories else "none"


def _set_up_torch(options: Train) -> None:
    torch.backends.cudnn.benchmark = False  # image sizes change from batch to batch
    if options.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def _evaluation(run: Run, validation: Dataset | None, options: Train) -> functools.partial[Any] | None:
    """As the model will be used: in float32, and one image at a time, since padding to neighbours changes answers."""
    if validation is None:
        return None
    return functools.partial(
        evaluate,
        run.evaluated,
        validation,
        run.config.build("evaluators"),
        workers=options.workers,
        losses=options.validation_loss,
        processes=run.processes,
    )


def _export(run: Run, folder: Path) -> None:
    """Write the model as it would be evaluated; the first process does."""
    if not run.processes.first:
        return
    about = run.config.tree.get("about") or {}
    meta: dict[str, Any] = {"step": run.step, "epoch": run.step / run.steps_per_epoch}
    if run.evaluated_step == run.step:
        meta["metrics"] = run.metrics
    if about.get("licence"):
        meta["licence"] = about["licence"]
    model: Detector = run.evaluated
    save_model(model, folder, config=run.config.tree["model"], meta=meta)
