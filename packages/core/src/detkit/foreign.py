"""Checkpoints of other systems, for converters: pickles of arrays, read without running anything that they name."""

from __future__ import annotations

import importlib
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Admits NumPy arrays, scalars and plain containers, nothing else: a pickle can otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in ("_reconstruct", "scalar"):
            return getattr(importlib.import_module("numpy._core.multiarray"), name)
        if (module, name) in (("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer")):
            return getattr(importlib.import_module("numpy._core.numeric"), name)
        if (module, name) == ("_codecs", "encode"):  # how Python 2 pickled bytes
            return _encode_latin1
        raise pickle.UnpicklingError(f"it holds {module}.{name}; only arrays and plain containers are read")


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}; only latin1 is read")
    return text.encode("latin1")


def read_foreign_checkpoint(path: Path) -> dict[str, Tensor]:
    """Arrays by name from a .pkl (pickled NumPy arrays: Detectron2, Detectron) or a .pth file (torch.save), at the top
    level or under `model`.

    Raises:
        ValueError: it cannot be read, holds anything but arrays, or is not a checkpoint.
    """
    try:
        if path.suffix == ".pkl":
            with path.open("rb") as file:
                data = _ArrayUnpickler(file, encoding="latin1").load()
        else:
            data = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a broken or hostile pickle can raise anything
        raise ValueError(f"{path} is not a checkpoint that can be read safely: {str(error)[:500]}") from error
    model = data.get("model", data) if isinstance(data, Mapping) else None
    if not isinstance(model, Mapping) or not model:
        raise ValueError(f"{path} is not a checkpoint: no mapping from names to arrays in it")
    state = {}
    for name, value in model.items():
        if isinstance(value, np.ndarray | np.generic):
            value = torch.from_numpy(np.array(value))
        if not isinstance(value, Tensor):
            raise ValueError(f"{path}: {name} is a {type(value).__name__}; an array is needed")
        state[str(name)] = value
    return state
