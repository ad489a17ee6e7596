"""Checkpoints of other systems, for converters: pickles of arrays, read without running anything that they name, and
their arrays under other names."""

from __future__ import annotations

import importlib
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detkit.weights import differences

_WHERE = ("model", "blobs", "model_state", "model_ema", "state_dict")
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


def read_foreign_pickle(path: Path, what: str = "a file") -> Any:
    """What a pickle of NumPy arrays and plain containers holds.

    Raises:
        ValueError: it cannot be read, or holds anything else; the message calls it `what`.
    """
    try:
        with path.open("rb") as file:
            return _ArrayUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a broken or hostile pickle can raise anything
        raise ValueError(f"{path} is not {what} that can be read safely: {str(error)[:500]}") from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # as above
        raise ValueError(f"{path} is not a checkpoint that can be read safely: {str(error)[:500]}") from error


def read_foreign_checkpoint(path: Path) -> dict[str, Tensor]:
    """Arrays by name from a .pkl (pickled NumPy arrays: Detectron2, Detectron) or a .pth file (torch.save), at the top
    level, or under the first that there is of `model`, `blobs` (Detectron), `model_state` (pycls), `model_ema` (the
    averaged weights of mobile_cv) and `state_dict`.

    Raises:
        ValueError: it cannot be read, holds anything but arrays, or is not a checkpoint.
    """
    data = read_foreign_pickle(path, "a checkpoint") if path.suffix == ".pkl" else _read_torch(path)
    model = None
    if isinstance(data, Mapping):
        model = next((data[key] for key in _WHERE if data.get(key) is not None), data)
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


def rename(
    state: Mapping[str, Tensor], names: Sequence[tuple[str, str]], derived: Sequence[str] = ()
) -> tuple[dict[str, Tensor], list[str]]:
    """Arrays under new names, and the names that no rule knows.

    Args:
        names: rules, the first that matches a whole name counts: a regular expression and the new name, in which `\\1`
            is a group and `{\\1-1}`, with one of + - * /, computes with a group that is a number.
        derived: regular expressions of arrays that follow from a config, and are left out.
    """
    renamed: dict[str, Tensor] = {}
    strangers = []
    for name, value in state.items():
        if any(re.fullmatch(pattern, name) for pattern in derived):
            continue
        for pattern, new in names:
            if match := re.fullmatch(pattern, name):
                renamed[re.sub(r"\{(\d+)([-+*/])(\d+)\}", _computed, match.expand(new))] = value
                break
        else:
            strangers.append(name)
    return renamed, strangers


def load_arrays(
    model: nn.Module,
    state: Mapping[str, Tensor],
    strangers: Sequence[str],
    refusal: str,
    *,
    initial: Sequence[str] = (),
) -> None:
    """Load a renamed state dict into a model, all of it and nothing else.

    Args:
        strangers: names that no rule knew.
        refusal: how the message begins: "FILE does not fit the model".
        initial: arrays of the model that the source does not have, which stay as they are. So do batch norms' counts of
            the batches that they have seen.

    Raises:
        ValueError: lists what has no counterpart, is missing, or is of another shape.
    """
    own = model.state_dict()
    kept = {name: value for name, value in own.items() if name in initial or name.endswith(".num_batches_tracked")}
    state = {**kept, **state}
    problems = [f"{name} has no counterpart" for name in strangers] + differences(model, state)
    if problems:
        raise ValueError(f"{refusal}:\n  " + "\n  ".join(problems))
    model.load_state_dict(state)


def _computed(match: re.Match[str]) -> str:
    left, sign, right = int(match[1]), match[2], int(match[3])
    return str({"+": left + right, "-": left - right, "*": left * right, "/": left // right}[sign])
