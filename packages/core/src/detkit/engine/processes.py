"""The processes of a run, one for each device: who I am, and the few things that they tell each other."""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

_TIMEOUT = timedelta(minutes=60)  # one process evaluates and writes files while the others wait


class Processes:
    """The processes that torchrun (or `detkit train --processes N`) started, or this one alone.

    Use it as a context: it joins the others on entry and leaves on exit.

    Args:
        device: "auto", "cpu" or "cuda". On CUDA each process takes the GPU of its local rank.

    Raises:
        ValueError: "cuda" without a GPU, or more processes on this machine than GPUs.
    """

    def __init__(self, device: str = "auto") -> None:
        self.rank = int(os.environ.get("RANK", 0))
        self.count = int(os.environ.get("WORLD_SIZE", 1))
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if device == "cuda" and gpus == 0:
            raise ValueError(
                "train.device is cuda, but torch finds no CUDA GPU; `detkit doctor` says why, or use device=cpu"
            )
        if device != "cpu" and 0 < gpus <= local_rank:
            raise ValueError(
                f"{local_rank + 1} processes on a machine with {gpus} GPUs; start one process for each GPU"
            )
        self.device = torch.device("cuda", local_rank) if gpus and device != "cpu" else torch.device("cpu")
        self._host: Any = None

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.count > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo", timeout=_TIMEOUT)
            # what stays on the host must not wait for the device
            self._host = dist.new_group(backend="gloo", timeout=_TIMEOUT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # after an error NCCL would wait for processes that do not come; the launcher ends them all
        if self.count > 1 and (error is None or self.device.type == "cpu"):
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """The model, with its gradients averaged over the processes."""
        if self.count == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        # batch norm statistics are not sent around in every step: those of the first process are saved
        known = inspect.signature(DistributedDataParallel).parameters
        sending = (
            "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        )  # before torch 2.15
        options: dict[str, Any] = {sending: False}
        return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True, **options)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
            values = values / self.count
        return values

    def gather(self, value: Any) -> list[Any]:
        """A picklable value of every process, in the first one; an empty list in the others."""
        if self.count == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.count if self.first else None
        dist.gather_object(value, gathered, dst=0, group=self._host)
        return gathered or []

    def share(self, value: Any) -> Any:
        """The first process's picklable value, in every process."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._host)
        return values[0]

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The first process does what is inside, then all others do."""
        if not self.first:
            self.share(None)
        yield
        if self.first:
            self.share(None)

    def any_flag(self, flag: bool) -> AnyFlag:
        """Start asking whether the flag is set in any of several processes."""
        return AnyFlag(flag, self._host)


class AnyFlag:
    """A question to all processes, answered while they work."""

    def __init__(self, flag: bool, group: Any) -> None:
        self._value = torch.tensor(int(flag))  # of the host
        self._work = dist.all_reduce(self._value, dist.ReduceOp.MAX, group, async_op=True)

    def answer(self) -> bool:
        """Whether it was set in any process when it asked; the same answer in all of them."""
        self._work.wait()
        return bool(self._value)


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The global generators of this process, as what `torch.load(weights_only=True)` reads back."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, [int(key) for key in keys], int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() and torch.cuda.is_initialized() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set the global generators to what `random_state` gave."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """The global generators are afterwards what they were before: what happens inside does not change the training."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
