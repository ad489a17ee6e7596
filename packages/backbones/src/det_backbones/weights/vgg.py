"""Published ImageNet weights of VGG, under this package's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from det_backbones.vgg import CONVS
from detkit.download import download
from detkit.foreign import read_foreign_checkpoint, rename

TORCHVISION = "https://download.pytorch.org/models"

# torchvision names its files after the first digits of their checksums
TORCHVISION_VGGS = {
    11: "vgg11-8a719046.pth",
    13: "vgg13-19584684.pth",
    16: "vgg16-397923af.pth",
    19: "vgg19-dcbb9e9d.pth",
}
CAFFE_VGG16 = "vgg16_features-amdegroot-88682ab5.pth"

NAMES_OF_CAFFE2 = (
    (r"conv(\d)_(\d)_w", r"conv\1.{\2-1}.weight"),
    (r"conv(\d)_(\d)_b", r"conv\1.{\2-1}.bias"),
)


def torchvision_vgg(file: str) -> dict[str, Tensor]:
    """A VGG of torchvision (IMAGENET1K_V1): RGB."""
    digits = Path(file).stem.rsplit("-", 1)[-1]
    return from_torchvision(read_foreign_checkpoint(download(f"{TORCHVISION}/{file}", digits)))


vgg11_torchvision = partial(torchvision_vgg, TORCHVISION_VGGS[11])
vgg13_torchvision = partial(torchvision_vgg, TORCHVISION_VGGS[13])
vgg16_torchvision = partial(torchvision_vgg, TORCHVISION_VGGS[16])
vgg19_torchvision = partial(torchvision_vgg, TORCHVISION_VGGS[19])
vgg16_caffe = partial(torchvision_vgg, CAFFE_VGG16)


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's VGG state dict -> that of `VGG`, without the classifier.

    Raises:
        ValueError: an array is of nothing that a VGG without batch norm has.
    """
    count = sum(name.startswith("features.") and name.endswith(".weight") for name in state)
    depth = next((depth for depth, convs in CONVS.items() if sum(convs) == count), 16)
    names = [(rf"features\.{number}\.(weight|bias)", rf"{ours}.\1") for number, ours in _torchvision_layers(depth)]
    return _renamed(state, names, r"classifier\..+")


def from_caffe2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A VGG with the names that its arrays have in Caffe2, such as Detectron's tool pickle_caffe_blobs.py makes of a
    file of Caffe -> the state dict of `VGG`, without the classifier: BGR. (Detectron itself has published none.)

    Raises:
        ValueError: an array is of nothing that a VGG has.
    """
    return _renamed(state, NAMES_OF_CAFFE2, r"fc[678]_.+", r".+_momentum", "lr")


def _torchvision_layers(depth: int) -> Iterator[tuple[int, str]]:
    """The numbers of convolutions in torchvision, where ReLUs and pooling count too, and their names here."""
    number = 0
    for stage, count in enumerate(CONVS[depth], 1):
        for conv in range(count):
            yield number, f"conv{stage}.{conv}"
            number += 2
        number += 1


def _renamed(state: Mapping[str, Tensor], names: Sequence[tuple[str, str]], *left_out: str) -> dict[str, Tensor]:
    renamed, strangers = rename(state, names, left_out)
    if strangers:
        raise ValueError(f"not the arrays of a VGG without batch norm: {', '.join(strangers[:8])}")
    return renamed
