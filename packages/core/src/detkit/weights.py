"""Weights as safetensors files, and what is wrong when they do not fit a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_SHOWN = 8  # names of one sort that an error lists


def write_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict. Arrays that share memory are stored once each.

    Raises:
        OSError: the file cannot be written, such as for lack of space.
    """
    seen: set[int] = set()
    arrays: dict[str, Tensor] = {}
    for name, value in state.items():
        array = value.detach().cpu().contiguous()
        if array.numel() and array.data_ptr() in seen:
            array = array.clone()
        seen.add(array.data_ptr())
        arrays[name] = array
    try:
        save_file(arrays, path, metadata={"format": "pt"})
    except SafetensorError as error:  # how the library reports input and output errors too
        raise OSError(f"cannot write {path}: {error}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict.

    Raises:
        ValueError: there is no such file, or it is not a complete safetensors file.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; the weights of a model are a safetensors file")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a complete safetensors file ({error}); copy it again, or convert it if it is of another "
            "format (detkit convert --help)"
        ) from error


def differences(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """What keeps `state` from being the model's state dict, in words; nothing if it fits."""
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    other_shape = [
        f"{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}"
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    sorts = (("missing", missing), ("unexpected", unexpected), ("of another shape", other_shape))
    return [f"{len(names)} {sort}: {_listed(names)}" for sort, names in sorts if names]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
