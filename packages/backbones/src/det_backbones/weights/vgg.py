"""Published ImageNet weights of VGG, under this package's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from torch import Tensor

from det_backbones.vgg import CONVS
from det_backbones.weights.published import TORCHVISION, fetched, renamed

_TITLE = "a VGG without batch norm"
NAMES_OF_CAFFE2 = (
    (r"conv(\d)_(\d)_w", r"conv\1.{\2-1}.weight"),
    (r"conv(\d)_(\d)_b", r"conv\1.{\2-1}.bias"),
)


def torchvision_vgg(file: str) -> dict[str, Tensor]:
    """A VGG of torchvision (IMAGENET1K_V1): RGB."""
    return from_torchvision(fetched(f"{TORCHVISION}/{file}"))


vgg11_torchvision = partial(torchvision_vgg, "vgg11-8a719046.pth")
vgg13_torchvision = partial(torchvision_vgg, "vgg13-19584684.pth")
vgg16_torchvision = partial(torchvision_vgg, "vgg16-397923af.pth")
vgg19_torchvision = partial(torchvision_vgg, "vgg19-dcbb9e9d.pth")
vgg16_caffe = partial(torchvision_vgg, "vgg16_features-amdegroot-88682ab5.pth")


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's VGG state dict -> that of `VGG`, without the classifier.

    Raises:
        ValueError: an array is of nothing that a VGG without batch norm has.
    """
    count = sum(name.startswith("features.") and name.endswith(".weight") for name in state)
    depth = next((depth for depth, convs in CONVS.items() if sum(convs) == count), 16)
    names = [(rf"features\.{number}\.(weight|bias)", rf"{ours}.\1") for number, ours in _torchvision_layers(depth)]
    return renamed(state, names, (r"classifier\..+",), _TITLE)


def from_caffe2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A VGG with the names that its arrays have in Caffe2, such as Detectron's tool pickle_caffe_blobs.py makes of a
    file of Caffe -> the state dict of `VGG`, without the classifier: BGR. (Detectron itself has published none.)

    Raises:
        ValueError: an array is of nothing that a VGG has.
    """
    return renamed(state, NAMES_OF_CAFFE2, (r"fc[678]_.+", r".+_momentum", "lr"), _TITLE)


def _torchvision_layers(depth: int) -> Iterator[tuple[int, str]]:
    """The numbers of convolutions in torchvision, where ReLUs and pooling count too, and their names here."""
    number = 0
    for stage, count in enumerate(CONVS[depth], 1):
        for conv in range(count):
            yield number, f"conv{stage}.{conv}"
            number += 2
        number += 1
