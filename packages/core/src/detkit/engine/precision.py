"""The arithmetic of the forward pass."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import Any, Literal

import torch

Precision = Literal["float32", "bfloat16", "auto"]


def resolved(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """The precision itself; for "auto", bfloat16 where the device computes in it, float32 where that is emulated."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def autocast(precision: Precision, device: torch.device) -> functools.partial[Any]:
    """Gives the context of a forward pass."""
    if resolved(precision, device) == "float32":
        return functools.partial(nullcontext)
    return functools.partial(torch.autocast, device.type, dtype=torch.bfloat16)
