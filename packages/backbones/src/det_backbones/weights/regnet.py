"""Published ImageNet weights of RegNetX and RegNetY, under this package's names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from det_backbones.weights.published import TORCHVISION, fetched, renamed

PYCLS = "https://dl.fbaipublicfiles.com/pycls/dds_baselines"

# torchvision's x_400mf, y_800mf and y_8gf, which are left out, are other networks than the paper's: it rounds half up,
# and nothing down by more than a tenth, to multiples of a group's width
TORCHVISION_REGNETS = {
    "x_800mf": "regnet_x_800mf-ad17e45c.pth",
    "x_1_6gf": "regnet_x_1_6gf-e3633e7f.pth",
    "x_3_2gf": "regnet_x_3_2gf-f342aeae.pth",
    "x_8gf": "regnet_x_8gf-03ceed89.pth",
    "x_16gf": "regnet_x_16gf-2007eb11.pth",
    "x_32gf": "regnet_x_32gf-9d47f8d0.pth",
    "y_400mf": "regnet_y_400mf-c65dace8.pth",
    "y_1_6gf": "regnet_y_1_6gf-b11a554e.pth",
    "y_3_2gf": "regnet_y_3_2gf-b5a9779c.pth",
    "y_16gf": "regnet_y_16gf-9e6ed7dd.pth",
    "y_32gf": "regnet_y_32gf-4dee3f7a.pth",
}

# The numbers are of the trainings
PYCLS_REGNETS = {
    "x_200mf": "160905981/RegNetX-200MF_dds_8gpu.pyth",
    "x_400mf": "160905967/RegNetX-400MF_dds_8gpu.pyth",
    "x_600mf": "160906442/RegNetX-600MF_dds_8gpu.pyth",
    "x_800mf": "160906036/RegNetX-800MF_dds_8gpu.pyth",
    "x_1_6gf": "160990626/RegNetX-1.6GF_dds_8gpu.pyth",
    "x_3_2gf": "160906139/RegNetX-3.2GF_dds_8gpu.pyth",
    "x_4gf": "160906383/RegNetX-4.0GF_dds_8gpu.pyth",
    "x_6_4gf": "161116590/RegNetX-6.4GF_dds_8gpu.pyth",
    "x_8gf": "161107726/RegNetX-8.0GF_dds_8gpu.pyth",
    "x_12gf": "160906020/RegNetX-12GF_dds_8gpu.pyth",
    "x_16gf": "158460855/RegNetX-16GF_dds_8gpu.pyth",
    "x_32gf": "158188473/RegNetX-32GF_dds_8gpu.pyth",
    "y_200mf": "176245422/RegNetY-200MF_dds_8gpu.pyth",
    "y_400mf": "160906449/RegNetY-400MF_dds_8gpu.pyth",
    "y_600mf": "160981443/RegNetY-600MF_dds_8gpu.pyth",
    "y_800mf": "160906567/RegNetY-800MF_dds_8gpu.pyth",
    "y_1_6gf": "160906681/RegNetY-1.6GF_dds_8gpu.pyth",
    "y_3_2gf": "160906834/RegNetY-3.2GF_dds_8gpu.pyth",
    "y_4gf": "160906838/RegNetY-4.0GF_dds_8gpu.pyth",
    "y_6_4gf": "160907112/RegNetY-6.4GF_dds_8gpu.pyth",
    "y_8gf": "161160905/RegNetY-8.0GF_dds_8gpu.pyth",
    "y_12gf": "160907100/RegNetY-12GF_dds_8gpu.pyth",
    "y_16gf": "161303400/RegNetY-16GF_dds_8gpu.pyth",
    "y_32gf": "161277763/RegNetY-32GF_dds_8gpu.pyth",
}

_OF_TORCHVISION = r"trunk_output\.block(\d)\.block\d-(\d+)\."
NAMES_OF_TORCHVISION = (
    (r"stem\.0\.(weight)", r"stem.\1"),
    (r"stem\.1\.(.+)", r"stem.norm.\1"),
    (_OF_TORCHVISION + r"proj\.0\.(weight)", r"s\1.\2.shortcut.\3"),
    (_OF_TORCHVISION + r"proj\.1\.(.+)", r"s\1.\2.shortcut.norm.\3"),
    (_OF_TORCHVISION + r"f\.a\.0\.(weight)", r"s\1.\2.conv1.\3"),
    (_OF_TORCHVISION + r"f\.a\.1\.(.+)", r"s\1.\2.conv1.norm.\3"),
    (_OF_TORCHVISION + r"f\.b\.0\.(weight)", r"s\1.\2.conv2.\3"),
    (_OF_TORCHVISION + r"f\.b\.1\.(.+)", r"s\1.\2.conv2.norm.\3"),
    (_OF_TORCHVISION + r"f\.se\.(fc[12]\..+)", r"s\1.\2.excite.\3"),
    (_OF_TORCHVISION + r"f\.c\.0\.(weight)", r"s\1.\2.conv3.\3"),
    (_OF_TORCHVISION + r"f\.c\.1\.(.+)", r"s\1.\2.conv3.norm.\3"),
)

_OF_PYCLS = r"s(\d)\.b(\d+)\."
NAMES_OF_PYCLS = (
    (r"stem\.conv\.(weight)", r"stem.\1"),
    (r"stem\.bn\.(.+)", r"stem.norm.\1"),
    (_OF_PYCLS + r"proj\.(weight)", r"s\1.{\2-1}.shortcut.\3"),
    (_OF_PYCLS + r"bn\.(.+)", r"s\1.{\2-1}.shortcut.norm.\3"),
    (_OF_PYCLS + r"f\.a\.(weight)", r"s\1.{\2-1}.conv1.\3"),
    (_OF_PYCLS + r"f\.a_bn\.(.+)", r"s\1.{\2-1}.conv1.norm.\3"),
    (_OF_PYCLS + r"f\.b\.(weight)", r"s\1.{\2-1}.conv2.\3"),
    (_OF_PYCLS + r"f\.b_bn\.(.+)", r"s\1.{\2-1}.conv2.norm.\3"),
    (_OF_PYCLS + r"f\.se\.f_ex\.0\.(.+)", r"s\1.{\2-1}.excite.fc1.\3"),
    (_OF_PYCLS + r"f\.se\.f_ex\.2\.(.+)", r"s\1.{\2-1}.excite.fc2.\3"),
    (_OF_PYCLS + r"f\.c\.(weight)", r"s\1.{\2-1}.conv3.\3"),
    (_OF_PYCLS + r"f\.c_bn\.(.+)", r"s\1.{\2-1}.conv3.norm.\3"),
)


def torchvision_regnet(size: str) -> dict[str, Tensor]:
    """A RegNet of torchvision (IMAGENET1K_V1): RGB."""
    return from_torchvision(fetched(f"{TORCHVISION}/{TORCHVISION_REGNETS[size]}"))


def pycls_regnet(size: str) -> dict[str, Tensor]:
    """A RegNet of the paper, from which Detectron2's recipes start: BGR, pixels divided by their deviation."""
    return from_pycls(fetched(f"{PYCLS}/{PYCLS_REGNETS[size]}"))


# What `detkit_plugin.WEIGHTS` names: regnetx_4gf_dds, regnety_1_6gf_torchvision and so on
for _size in PYCLS_REGNETS:
    globals()[f"regnet{_size}_dds"] = partial(pycls_regnet, _size)
for _size in TORCHVISION_REGNETS:
    globals()[f"regnet{_size}_torchvision"] = partial(torchvision_regnet, _size)


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's RegNet state dict -> that of `RegNet`, without the classifier.

    Raises:
        ValueError: an array is of nothing that a RegNet has.
    """
    return renamed(state, NAMES_OF_TORCHVISION, (r"fc\..+",), "a RegNet")


def from_pycls(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a RegNet of pycls or Detectron2 -> that of `RegNet`, without the classifier.

    Raises:
        ValueError: an array is of nothing that a RegNet with a plain stem and bottleneck blocks has.
    """
    return renamed(state, NAMES_OF_PYCLS, (r"head\.fc\..+",), "a RegNet")
