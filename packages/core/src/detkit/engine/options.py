"""How to train: the section `train` of a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from detkit.engine.precision import Precision
from detkit.interfaces import Callback, Optimizer, Sampler, Schedule, Tracker


@dataclass(frozen=True, kw_only=True)
class Train:
    """How to train.

    Args:
        optimizer: how weights are updated; its learning rate is for `lr_batch_size` images a step.
        schedule: how the learning rate changes during the run.
        steps: length of the run in optimizer steps. Give this or `epochs`.
        epochs: length of the run in passes over the training images, as `sampler` repeats them; may be a fraction.
        sampler: how often each image is seen; null shows each once in an epoch. It says how long an epoch is.
        batch_size: images in an optimizer step, over all processes and accumulated parts.
        accumulate: parts that a batch is split into, one after the other, to save memory. Changes nothing else, except
            for layers and losses that look at a whole batch.
        lr_batch_size: the learning rate is multiplied by `batch_size / lr_batch_size` (Goyal et al., 2017, "Accurate,
            large minibatch SGD"); null keeps it as it is.
        precision: of the forward pass; bfloat16 is autocast, weights stay float32; auto is bfloat16 where the device
            computes in it, else float32.
        clip_norm: gradients are scaled so that their global 2-norm is at most this; null does not clip.
        clip_value: each element of a gradient is clamped to [-clip_value, clip_value]; null does not clip.
        ema: decay of the exponential moving average of the weights, such as 0.9998, which is then evaluated and saved;
            null trains without.
        seed: of weights, data order, augmentation and sampling.
        workers: processes that load images, in each training process.
        log_every: steps from one line of metrics to the next.
        eval_every: steps from one evaluation to the next; "epoch"; null evaluates ten times in a run. There is always
            one at the end.
        save_every: steps from one checkpoint to the next; "epoch"; null saves at least ten times in a run and every
            1000 steps. There is always one at the end.
        keep: checkpoints to keep, the newest ones.
        validation_loss: also compute the losses on the validation images at each evaluation.
        monitor: the metric that decides which model is `best`: "segm/AP", or "validation/loss" (lower is better); null
            takes AP or mIoU in the first section that the evaluators report.
        patience: stop after this many evaluations in a row without a better `monitor`; null never does.
        device: auto takes a CUDA GPU if there is one.
        compile: train through torch.compile.
        deterministic: refuse operators whose result varies from run to run on a GPU.
        callbacks: observe the run, in this order.
        trackers: receive the metrics besides metrics.jsonl.
    """

    optimizer: Optimizer
    schedule: Schedule
    steps: int | None = None
    epochs: float | None = None
    sampler: Sampler | None = None
    batch_size: int = 16
    accumulate: int = 1
    lr_batch_size: int | None = 16
    precision: Precision = "float32"
    clip_norm: float | None = None
    clip_value: float | None = None
    ema: float | None = None
    seed: int = 0
    workers: int = 2
    log_every: int = 20
    eval_every: int | Literal["epoch"] | None = None
    save_every: int | Literal["epoch"] | None = None
    keep: int = 1
    validation_loss: bool = True
    monitor: str | None = None
    patience: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    deterministic: bool = False
    callbacks: Sequence[Callback] = ()
    trackers: Sequence[Tracker] = ()

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"steps is {self.steps} and epochs is {self.epochs}; give exactly one of them in one place"
            )
        positive = ("steps", "epochs", "batch_size", "accumulate", "lr_batch_size", "clip_norm", "clip_value")
        for name in (*positive, "log_every", "eval_every", "save_every", "keep", "patience"):
            value = getattr(self, name)
            if value is not None and value != "epoch" and value <= 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        if self.workers < 0 or self.seed < 0:
            raise ValueError(f"workers is {self.workers}, seed is {self.seed}; neither may be negative")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema is {self.ema}; a decay lies between 0 and 1, such as 0.9998")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be split into accumulate {self.accumulate} equal parts; "
                "batch_size must be a multiple of accumulate"
            )
