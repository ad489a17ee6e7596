"""Published ImageNet weights of ResNet and ResNeXt, under this package's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from detkit.download import download
from detkit.foreign import read_foreign_checkpoint, rename
from detkit.foreign_resnet import TORCHVISION as TORCHVISION_NAMES
from detkit.foreign_resnet import caffe2_name, constant_statistics

DETECTRON = "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained"
DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained"
TORCHVISION = "https://download.pytorch.org/models"

# The classifier, and what training left behind
_NO_BACKBONE = r"(?:stem\.)?(?:fc|linear)\..+|fc1000.*|pred_.*|.*_momentum|lr|conv1_b|.+\.num_batches_tracked"
_OWN_NAME = r"(?:stem\.conv1|res\d\.\d+\.(?:conv[123]|shortcut))\.(?:weight|norm\..+)"

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


def detectron2_resnet(file: str) -> dict[str, Tensor]:
    """A ResNet from which Detectron2's zoo was trained: BGR."""
    return from_caffe2(read_foreign_checkpoint(download(f"{DETECTRON2}/{file}")))


def detectron_resnet(file: str) -> dict[str, Tensor]:
    """A ResNet from Detectron's zoo: BGR."""
    return from_caffe2(read_foreign_checkpoint(download(f"{DETECTRON}/{file}")))


resnet18_torchvision = partial(torchvision_resnet, 18)
resnet34_torchvision = partial(torchvision_resnet, 34)
resnet50_torchvision = partial(torchvision_resnet, 50)
resnet101_torchvision = partial(torchvision_resnet, 101)
resnet152_torchvision = partial(torchvision_resnet, 152)
resnet50_msra = partial(detectron2_resnet, "MSRA/R-50.pkl")
resnet101_msra = partial(detectron2_resnet, "MSRA/R-101.pkl")
resnext101_32x8d_fair = partial(detectron2_resnet, "FAIR/X-101-32x8d.pkl")
resnext152_32x8d_fair = partial(detectron_resnet, "25093814/X-152-32x8d-IN5k.pkl")
resnet50_gn_fair = partial(detectron_resnet, "47261647/R-50-GN.pkl")
resnet101_gn_fair = partial(detectron_resnet, "47592356/R-101-GN.pkl")


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ResNet state dict -> that of `ResNet`, without the classifier.

    Raises:
        ValueError: an array is of nothing that a ResNet has.
    """
    renamed, strangers = rename(state, TORCHVISION_NAMES, (r"fc\..+", r".+\.num_batches_tracked"))
    _refuse(strangers)
    return renamed


def from_caffe2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ResNet from the zoos of Detectron and Detectron2, its arrays named as in Caffe2 or as in detkit -> the state
    dict of `ResNet`, without the classifier. A batch norm without statistics is a scale and a shift: it gets those that
    leave it so.

    Raises:
        ValueError: an array is of nothing that a ResNet has.
    """
    renamed: dict[str, Tensor] = {}
    strangers = []
    for blob, value in state.items():
        if re.fullmatch(_NO_BACKBONE, blob):
            continue
        name = blob if re.fullmatch(_OWN_NAME, blob) else caffe2_name(blob)
        if name is None:
            strangers.append(blob)
            continue
        renamed[name] = value
        if blob.endswith("_bn_s"):
            prefix = name.removesuffix("weight")
            for leaf, constant in constant_statistics(value).items():
                renamed.setdefault(prefix + leaf, constant)
    _refuse(strangers)
    return renamed


def _refuse(strangers: list[str]) -> None:
    if strangers:
        raise ValueError(f"not the arrays of a ResNet: {', '.join(strangers[:8])}")
