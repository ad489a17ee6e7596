"""Published ImageNet weights of backbones, under this package's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from detkit.download import download
from detkit.foreign import read_foreign_checkpoint

DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained"
TORCHVISION = "https://download.pytorch.org/models"
EPS = 1e-5  # of FrozenBatchNorm

# torchvision names its files after the first digits of their checksums
TORCHVISION_RESNETS = {
    18: "resnet18-f37072fd.pth",
    34: "resnet34-b627a593.pth",
    50: "resnet50-0676ba61.pth",
    101: "resnet101-63fe2227.pth",
    152: "resnet152-394f9c45.pth",
}


def torchvision_resnet(depth: int) -> dict[str, Tensor]:
    """A ResNet of torchvision (IMAGENET1K_V1): RGB, stride in the 3x3 convolution."""
    file = TORCHVISION_RESNETS[depth]
    digits = Path(file).stem.rsplit("-", 1)[-1]
    return from_torchvision(read_foreign_checkpoint(download(f"{TORCHVISION}/{file}", digits)))


def msra_resnet(depth: int) -> dict[str, Tensor]:
    """An original ResNet (He et al., 2015) as Detectron2's zoo uses it: BGR, stride in the first 1x1 convolution."""
    return from_caffe2(read_foreign_checkpoint(download(f"{DETECTRON2}/MSRA/R-{depth}.pkl")))


resnet18_torchvision = partial(torchvision_resnet, 18)
resnet34_torchvision = partial(torchvision_resnet, 34)
resnet50_torchvision = partial(torchvision_resnet, 50)
resnet101_torchvision = partial(torchvision_resnet, 101)
resnet152_torchvision = partial(torchvision_resnet, 152)
resnet50_msra = partial(msra_resnet, 50)
resnet101_msra = partial(msra_resnet, 101)


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ResNet state dict -> that of `ResNet`, without the classifier."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        name = re.sub(r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}", name)
        name = name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
        name = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", name)
        renamed[name if name.startswith("res") else f"stem.{name}"] = value
    return renamed


def from_caffe2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Caffe2 blobs of a ResNet -> the state dict of `ResNet`, without the classifier. Their batch norm is a scale and a
    shift: the statistics become those that leave it so.

    Raises:
        ValueError: a blob is of nothing that a ResNet has.
    """
    renamed: dict[str, Tensor] = {}
    strangers = []
    for blob, value in state.items():
        if blob.startswith(("fc1000", "pred")) or blob.endswith("_momentum") or blob == "lr" or blob == "conv1_b":
            continue
        match = re.fullmatch(r"(?:res_)?(conv1|res\d_\d+_branch(?:1|2[abc]))_(w|bn_s|bn_b)", blob)
        if not match:
            strangers.append(blob)
            continue
        layer, leaf = match.groups()
        if layer == "conv1":
            prefix = "stem.conv1"
        else:
            stage, block, branch = layer.split("_")
            prefix = f"{stage}.{block}." + ("shortcut" if branch == "branch1" else f"conv{'abc'.index(branch[-1]) + 1}")
        if leaf == "w":
            renamed[f"{prefix}.weight"] = value
            continue
        renamed[f"{prefix}.norm.{'weight' if leaf == 'bn_s' else 'bias'}"] = value
        renamed[f"{prefix}.norm.running_mean"] = torch.zeros_like(value)
        renamed[f"{prefix}.norm.running_var"] = torch.full_like(value, 1 - EPS)
    if strangers:
        raise ValueError(f"not the blobs of a ResNet: {', '.join(strangers[:8])}")
    return renamed
