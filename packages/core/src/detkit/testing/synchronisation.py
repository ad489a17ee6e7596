"""Catching code that waits for the device: each wait costs a GPU its lead over Python."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_OPERATORS = {
    "aten::_local_scalar_dense": "reads a value (.item(), float(), int(), bool(), if)",
    "aten::nonzero": "nonzero: the size of the answer is read",
    "aten::masked_select": "masked_select: the size of the answer is read",
    "aten::_unique2": "unique: the size of the answer is read",
    "aten::unique_dim": "unique: the size of the answer is read",
    "aten::unique_consecutive": "unique: the size of the answer is read",
    "aten::bincount": "bincount: the size of the answer is read",
    "aten::equal": "torch.equal: the answer is read",
    "torchvision::nms": "torchvision's nms: the size of the answer is read",
}
_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_")
_METHODS = ("tolist", "numpy", "cpu", "__array__")  # on the CPU these read memory without calling an operator


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.name().partition(".")[0]
        if name in _OPERATORS:
            _refuse(_OPERATORS[name])
        if name in _INDEXING and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        ):
            _refuse("indexing with a mask: the number of elements is read; use torch.where")
        if name == "aten::repeat_interleave" and isinstance(args[-1], Tensor) and not (kwargs or {}).get("output_size"):
            _refuse("repeat_interleave without output_size: the size of the answer is read")
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", "") in _METHODS:
            _refuse(f".{func.__name__}(): the values are read")
        return func(*args, **(kwargs or {}))


@contextmanager
def forbid_synchronisation() -> Iterator[None]:
    """Within it, whatever would make a GPU's host wait raises AssertionError and says where, on any device.

    Custom operators count as one operator each: what their CPU kernels do inside is not seen.
    """
    with _Methods(), _Operators():
        yield


def _refuse(what: str) -> None:
    ours = [
        frame
        for frame in traceback.extract_stack()
        if f"{Path(torch.__file__).parent}" not in frame.filename and frame.filename != __file__
    ]
    where = f"{ours[-1].filename}:{ours[-1].lineno}: {ours[-1].line}" if ours else "the backward pass"
    raise AssertionError(f"the device is waited for: {what}\n  {where}")
