"""Leave out the padding where that is free."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def valid_rows(valid: Tensor) -> Tensor:
    """Indices (n,) of the rows of `valid` (N,) to compute, the valid ones first among them.

    On a CPU, where reading a count costs nothing, these are the valid rows alone (at least one row, so that nothing
    downstream is empty); elsewhere, and when a program is traced or exported or nothing is computed, all N, so that
    shapes depend on capacities only and the device need not be waited for.
    """
    if valid.device.type == "cpu" and not torch.compiler.is_compiling() and not isinstance(valid, FakeTensor):
        return _valid_rows_on_cpu(valid)
    return torch.argsort(valid.to(torch.int8), descending=True, stable=True)


@torch.library.custom_op("detkit::valid_rows", mutates_args=())
def _valid_rows_on_cpu(valid: Tensor) -> Tensor:
    rows = valid.nonzero().squeeze(1)
    return rows if len(rows) else rows.new_zeros(1)


@_valid_rows_on_cpu.register_fake
def _valid_rows_fake(valid: Tensor) -> Tensor:
    count = torch.library.get_ctx().new_dynamic_size(min=1)
    return torch.empty(count, dtype=torch.int64, device=valid.device)
