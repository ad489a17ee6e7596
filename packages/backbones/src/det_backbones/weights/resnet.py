"""Published ImageNet weights of ResNet and ResNeXt, under this package's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from torch import Tensor

from det_backbones.weights.published import TORCHVISION, fetched, refuse, renamed
from detkit.foreign_resnet import TORCHVISION as TORCHVISION_NAMES
from detkit.foreign_resnet import caffe2_name, constant_statistics

DETECTRON = "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained"
DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained"
DEEPLAB = "https://dl.fbaipublicfiles.com/detectron2/DeepLab"
TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download"

# The classifier, and what training left behind
_NO_BACKBONE = r"(?:stem\.)?(?:fc|linear)\..+|fc1000.*|pred_.*|.*_momentum|lr|conv1_b|.+\.num_batches_tracked"
_OWN_NAME = r"(?:stem\.conv[123]|res\d\.\d+\.(?:conv[123]|shortcut))\.(?:weight|norm\..+)"

# What timm has that torchvision does not
_SQUEEZE_EXCITE = (r"layer(\d)\.(\d+)\.se\.(fc[12]\..+)", r"res{\1+1}.\2.excite.\3")
_DEEP_STEM = (
    (r"conv1\.0\.(weight)", r"stem.conv1.\1"),
    (r"conv1\.1\.(.+)", r"stem.conv1.norm.\1"),
    (r"conv1\.3\.(weight)", r"stem.conv2.\1"),
    (r"conv1\.4\.(.+)", r"stem.conv2.norm.\1"),
    (r"conv1\.6\.(weight)", r"stem.conv3.\1"),
    (r"bn1\.(.+)", r"stem.conv3.norm.\1"),
)
_CLASSIFIER = (r"fc\..+",)


def torchvision_resnet(file: str) -> dict[str, Tensor]:
    """A ResNet of torchvision (IMAGENET1K_V1): RGB, stride in the 3x3 convolution."""
    return from_torchvision(fetched(f"{TORCHVISION}/{file}"))


def timm_resnet(file: str) -> dict[str, Tensor]:
    """A ResNet of timm: RGB, stride in the 3x3 convolution."""
    return from_timm(fetched(f"{TIMM}/{file}"))


def deeplab_resnet(file: str) -> dict[str, Tensor]:
    """A ResNet with a deep stem from which Detectron2's DeepLab and Panoptic-DeepLab were trained: RGB."""
    return from_caffe2(fetched(f"{DEEPLAB}/{file}"))


def detectron2_resnet(file: str) -> dict[str, Tensor]:
    """A ResNet from which Detectron2's zoo was trained: BGR."""
    return from_caffe2(fetched(f"{DETECTRON2}/{file}"))


def detectron_resnet(file: str) -> dict[str, Tensor]:
    """A ResNet from Detectron's zoo: BGR."""
    return from_caffe2(fetched(f"{DETECTRON}/{file}"))


resnet18_torchvision = partial(torchvision_resnet, "resnet18-f37072fd.pth")
resnet34_torchvision = partial(torchvision_resnet, "resnet34-b627a593.pth")
resnet50_torchvision = partial(torchvision_resnet, "resnet50-0676ba61.pth")
resnet101_torchvision = partial(torchvision_resnet, "resnet101-63fe2227.pth")
resnet152_torchvision = partial(torchvision_resnet, "resnet152-394f9c45.pth")
resnext50_32x4d_torchvision = partial(torchvision_resnet, "resnext50_32x4d-7cdf4587.pth")
resnext101_32x8d_torchvision = partial(torchvision_resnet, "resnext101_32x8d-8ba56ff5.pth")
resnext101_64x4d_torchvision = partial(torchvision_resnet, "resnext101_64x4d-173b62eb.pth")
wide_resnet50_2_torchvision = partial(torchvision_resnet, "wide_resnet50_2-95faca4d.pth")
wide_resnet101_2_torchvision = partial(torchvision_resnet, "wide_resnet101_2-32ee1156.pth")
seresnet50_timm = partial(timm_resnet, "v0.1-weights/seresnet50_ra_224-8efdb4bb.pth")
resnet52_deeplab = partial(deeplab_resnet, "R-52.pkl")
resnet103_deeplab = partial(deeplab_resnet, "R-103.pkl")
resnet50_msra = partial(detectron2_resnet, "MSRA/R-50.pkl")
resnet101_msra = partial(detectron2_resnet, "MSRA/R-101.pkl")
resnext101_32x8d_fair = partial(detectron2_resnet, "FAIR/X-101-32x8d.pkl")
resnext101_64x4d_fair = partial(detectron_resnet, "FBResNeXt/X-101-64x4d.pkl")
resnext152_32x8d_fair = partial(detectron_resnet, "25093814/X-152-32x8d-IN5k.pkl")
resnet50_gn_fair = partial(detectron_resnet, "47261647/R-50-GN.pkl")
resnet101_gn_fair = partial(detectron_resnet, "47592356/R-101-GN.pkl")


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ResNet state dict -> that of `ResNet`, without the classifier.

    Raises:
        ValueError: an array is of nothing that a ResNet has.
    """
    return renamed(state, TORCHVISION_NAMES, _CLASSIFIER, "a ResNet")


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's ResNet state dict, also with squeeze-excite (seresnet50) or a deep stem (resnet50s) -> that of `ResNet`,
    without the classifier.

    Raises:
        ValueError: an array is of nothing that a ResNet has.
    """
    stem = _DEEP_STEM if "conv1.0.weight" in state else ()
    return renamed(state, (*stem, _SQUEEZE_EXCITE, *TORCHVISION_NAMES), _CLASSIFIER, "a ResNet")


def from_caffe2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ResNet from the zoos of Detectron and Detectron2, its arrays named as in Caffe2 or as in detkit -> the state
    dict of `ResNet`, without the classifier. A batch norm without statistics is a scale and a shift: it gets those that
    leave it so.

    Raises:
        ValueError: an array is of nothing that a ResNet has.
    """
    found: dict[str, Tensor] = {}
    strangers = []
    for blob, value in state.items():
        if re.fullmatch(_NO_BACKBONE, blob):
            continue
        name = blob if re.fullmatch(_OWN_NAME, blob) else caffe2_name(blob)
        if name is None:
            strangers.append(blob)
            continue
        found[name] = value
        if blob.endswith("_bn_s"):
            prefix = name.removesuffix("weight")
            for leaf, constant in constant_statistics(value).items():
                found.setdefault(prefix + leaf, constant)
    refuse(strangers, "a ResNet")
    return found
