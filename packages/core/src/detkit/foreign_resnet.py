"""The arrays of a ResNet in other systems' checkpoints, under the names that every ResNet of detkit has."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

EPS = 1e-5  # of FrozenBatchNorm

TORCHVISION = (
    (r"(conv1\.weight)", r"stem.\1"),
    (r"bn1\.(.+)", r"stem.conv1.norm.\1"),
    (r"layer(\d)\.(\d+)\.(conv\d\.weight)", r"res{\1+1}.\2.\3"),
    (r"layer(\d)\.(\d+)\.bn(\d)\.(.+)", r"res{\1+1}.\2.conv\3.norm.\4"),
    (r"layer(\d)\.(\d+)\.downsample\.0\.weight", r"res{\1+1}.\2.shortcut.weight"),
    (r"layer(\d)\.(\d+)\.downsample\.1\.(.+)", r"res{\1+1}.\2.shortcut.norm.\3"),
)
"""Names in torchvision's ResNets, as regular expressions, and in detkit's: see `detkit.foreign.rename`."""

_CAFFE2 = re.compile(r"(?:res_)?(conv1|res\d_\d+_branch(?:1|2[abc]))_(w|bn_(?:s|b|rm|riv)|gn_[sb])")
_LEAVES = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}


def caffe2_name(blob: str) -> str | None:
    """The name of the array that a Caffe2 blob is: "res2_0_branch2a_w" is "res2.0.conv1.weight"; None if the blob is
    not of a ResNet. Scale and shift of a norm ("..._bn_s", "..._gn_b") are its weight and bias."""
    match = _CAFFE2.fullmatch(blob)
    if match is None:
        return None
    layer, leaf = match.groups()
    if layer == "conv1":
        prefix = "stem.conv1"
    else:
        stage, block, branch = layer.split("_")
        prefix = f"{stage}.{block}." + ("shortcut" if branch == "branch1" else f"conv{'abc'.index(branch[-1]) + 1}")
    return f"{prefix}.weight" if leaf == "w" else f"{prefix}.norm.{_LEAVES[leaf.split('_')[1]]}"


def constant_statistics(scale: Tensor) -> dict[str, Tensor]:
    """The statistics with which a frozen batch norm is nothing but its weight and its bias, for a weight of this
    shape."""
    return {"running_mean": torch.zeros_like(scale), "running_var": torch.full_like(scale, 1 - EPS)}


def folded(state: Mapping[str, Tensor], eps: float) -> dict[str, Tensor]:
    """A state dict whose batch norms, of another `eps`, are turned into frozen ones of the same scale and shift with
    detkit's."""
    out = dict(state)
    for name, variance in state.items():
        if not name.endswith(".running_var"):
            continue
        norm = name.removesuffix(".running_var")
        scale = state[f"{norm}.weight"] * (variance + eps).rsqrt()
        out[f"{norm}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
        out[f"{norm}.weight"] = scale
        out.update({f"{norm}.{leaf}": value for leaf, value in constant_statistics(scale).items()})
    return out
