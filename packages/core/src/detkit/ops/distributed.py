"""Sums over processes that models need: a loss must not depend on how a batch is split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed
from torch import Tensor

_local = False


def average_count(count: Tensor) -> Tensor:
    """The mean over all processes of what a loss is divided by, such as the number of foreground boxes.

    Data parallel training averages the gradients of the processes, so a sum of losses divided by this mean has the same
    gradient as the whole batch in one process. Stays on the device, without waiting for it. The same tensor comes back
    where there is one process, and inside `counts_of_this_process`.

    Args:
        count: any shape; gradients do not flow through it.
    """
    if _local or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return count
    processes = torch.distributed.get_world_size()
    if processes == 1:
        return count
    total = count.detach().to(torch.float32, copy=True)
    torch.distributed.all_reduce(total)
    return total / processes


@contextmanager
def counts_of_this_process() -> Iterator[None]:
    """`average_count` answers with what it is given: for validation, where processes see different numbers of batches
    and one that waits for the others would wait for ever."""
    global _local
    before, _local = _local, True
    try:
        yield
    finally:
        _local = before
