"""The training loop. Everything that it uses was built before it began (`detkit.engine.train`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from detkit.engine.checkpoint import Checkpoints
from detkit.engine.clipping import Clipping
from detkit.engine.finite import FiniteCheck
from detkit.engine.journal import Journal
from detkit.engine.meter import Meter
from detkit.engine.monitor import SCORES, Monitor
from detkit.engine.moving_average import TrainedWeights
from detkit.engine.processes import preserved_random_state
from detkit.engine.run import Run, flatten, write_json
from detkit.engine.stop import StopRequest
from detkit.interfaces import Callback, Schedule
from detkit.structures.batch import Batch


class Stopped(Exception):
    """The run was asked to stop; it has saved and can be resumed."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the loop works with.

    batches: an endless stream of parts of batches, this process's share of each.
    forward: the model as it is called: itself, compiled, data parallel.
    accumulate: parts in a step.
    autocast: gives the context of the forward pass.
    unsynchronized: gives the context in which gradients stay in this process, for all parts of a step but the last.
    evaluate: computes the metrics of the weights that are evaluated; None without validation images.
    export: writes `run.evaluated` into a model directory.
    log_every, evaluate_every, save_every: steps.
    """

    batches: Iterator[Batch]
    forward: Callable[[Batch], dict[str, torch.Tensor]]
    accumulate: int
    autocast: Callable[[], AbstractContextManager[Any]]
    unsynchronized: Callable[[], AbstractContextManager[Any]]
    optimizer: torch.optim.Optimizer  # its groups hold `initial_lr`
    schedule: Schedule
    clip: Clipping
    weights: TrainedWeights
    finite: FiniteCheck
    meter: Meter
    monitor: Monitor
    journal: Journal
    checkpoints: Checkpoints
    stop: StopRequest
    callbacks: Sequence[Callback]
    evaluate: Callable[[], dict[str, dict[str, Any]]] | None
    export: Callable[[Path], None]
    log_every: int
    evaluate_every: int
    save_every: int


def train_until_done(run: Run, parts: Parts) -> None:
    """Train to the end of the run, or until it stops improving.

    Raises:
        Stopped: the run was asked to stop, and has saved.
        FloatingPointError: a loss or a gradient is not finite; names the images.
    """
    _evaluate_if_due(run, parts)  # a run that was killed between saving and evaluating
    while run.step < run.steps and not run.finished:
        factor = parts.schedule.factor(run.step, run.steps)
        for group in parts.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

        step_losses, images = [], []
        for part in range(parts.accumulate):
            with parts.meter.waiting():
                batch = next(parts.batches)
            with ExitStack() as contexts:
                if part < parts.accumulate - 1:
                    contexts.enter_context(parts.unsynchronized())
                with parts.autocast():
                    # names of files would make torch.compile compile anew for every batch
                    losses = parts.forward(replace(batch.to(run.processes.device, non_blocking=True), info=[]))
                    loss = torch.stack([value.float() for value in losses.values()]).sum() / parts.accumulate
                loss.backward()
            step_losses.append({name: value.detach() for name, value in losses.items()})
            images += batch.info
            parts.meter.part(step_losses[-1], len(batch) * run.processes.count)

        norm = parts.clip()
        parts.finite.watch(run.step + 1, step_losses, norm, images)
        parts.optimizer.step()
        parts.optimizer.zero_grad(set_to_none=True)
        run.step += 1
        parts.weights.update(run.step)
        parts.meter.step(norm)
        parts.journal.progress.advance(run.step)

        stop = parts.stop.asked()
        if run.step % parts.log_every == 0 or run.step in (1, run.steps) or stop:
            _log(run, parts)
        if run.step % parts.save_every == 0 or run.step == run.steps or stop:
            _save(run, parts)
        if stop and run.step < run.steps:
            raise Stopped(f"asked to stop: saved at step {run.step} of {run.steps}")
        _evaluate_if_due(run, parts)
    run.finished = True
    _save(run, parts)


def _log(run: Run, parts: Parts) -> None:
    parts.finite.verify()
    metrics = parts.meter.take()
    # of parameters without factors of their own
    metrics["lr"] = parts.optimizer.defaults["lr"] * parts.schedule.factor(run.step - 1, run.steps)
    metrics["epoch"] = run.step / run.steps_per_epoch
    parts.journal.training(run.step, metrics)
    for callback in parts.callbacks:
        callback.on_step(run, metrics)


def _save(run: Run, parts: Parts) -> None:
    parts.finite.verify()
    with parts.meter.pause(), parts.journal.progress.phase("saving"):
        path = parts.checkpoints.save()
        parts.export(run.folder / "last")
    for callback in parts.callbacks:
        callback.on_save(run, path)


def _evaluate_if_due(run: Run, parts: Parts) -> None:
    due = run.step % parts.evaluate_every == 0 or run.step == run.steps
    if parts.evaluate is None or not due or run.step in (0, run.evaluated_step):
        return
    parts.finite.verify()
    with parts.meter.pause(), parts.journal.progress.phase("evaluating"), preserved_random_state():
        run.metrics = parts.evaluate()
    run.evaluated_step = run.step
    metrics = flatten(run.metrics)
    parts.journal.evaluation(run.step, metrics)
    if run.processes.first:
        write_json(run.folder / "metrics.json", run.metrics)
    best = parts.monitor.see(run, metrics)
    if best:
        with parts.meter.pause():
            parts.export(run.folder / "best")
    summary = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if name.endswith((*SCORES, "/loss")))
    parts.journal.progress.say(f"step {run.step}: {summary}{' (best so far)' if best else ''}")
    for callback in parts.callbacks:
        callback.on_evaluate(run, run.metrics)
    if parts.monitor.gives_up(run):
        parts.journal.progress.say(f"no better result in {run.misses} evaluations: stopping early")
        run.finished = True
