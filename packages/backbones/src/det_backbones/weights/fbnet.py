"""Published ImageNet weights of FBNetV3, under this package's names: for `FBNet` of the flavour "imagenet".

timm's are of FBNetV3-B, D and G. The paper's authors (mobile_cv) publish A to G; those of A, B, C, E and F were trained
with convolutions that leave out the border of their input, whose maps are smaller than detectors need, and are not
taken. D2Go's own architecture "a" has no ImageNet weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from det_backbones.weights.published import fetched, renamed

TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"
MOBILE_CV = "https://dl.fbaipublicfiles.com/fbnet/models/20201201/GtOtfw"

_LEAF = r"(?P<leaf>weight|bias|running_mean|running_var)"

# What timm calls the layers of the first blocks, which do not widen, and of the others
_TIMM_PLAIN = (("conv_dw", "depthwise"), ("bn1", "depthwise.norm"), ("conv_pw", "project"), ("bn2", "project.norm"))
_TIMM_WIDE = (
    ("conv_pw", "expand"),
    ("bn1", "expand.norm"),
    ("conv_dw", "depthwise"),
    ("bn2", "depthwise.norm"),
    (r"se\.conv_reduce", "squeeze.reduce"),
    (r"se\.conv_expand", "squeeze.expand"),
    ("conv_pwl", "project"),
    ("bn3", "project.norm"),
)
# timm's groups of blocks; the fourth and the fifth, of which the former has five blocks, are one stage
_TIMM_GROUPS = (
    (0, r"trunk0.{\1+1}", _TIMM_PLAIN),
    (1, r"trunk1.\1", _TIMM_WIDE),
    (2, r"trunk2.\1", _TIMM_WIDE),
    (3, r"trunk3.\1", _TIMM_WIDE),
    (4, r"trunk3.{\1+5}", _TIMM_WIDE),
    (5, r"trunk4.\1", _TIMM_WIDE),
)
TIMM_NAMES = (
    (r"conv_stem\.weight", "trunk0.0.weight"),
    (rf"bn1\.{_LEAF}", r"trunk0.0.norm.\g<leaf>"),
    *(
        (rf"blocks\.{group}\.(\d+)\.{theirs}\.{_LEAF}", rf"{block}.{ours}.\g<leaf>")
        for group, block, layers in _TIMM_GROUPS
        for theirs, ours in layers
    ),
)

# mobile_cv's stages and ours, which has the first convolution among its blocks
_MOBILE_CV_BLOCKS = (("0_0", "trunk0.0"), (r"1_(\d+)", r"trunk0.{\1+1}"), (r"([2-5])_(\d+)", r"trunk{\1-1}.\2"))
MOBILE_CV_NAMES = tuple(
    (rf"(?:module\.)?backbone\.stages\.xif{number}\.{theirs}\.{_LEAF}", rf"{block}.{ours}\g<leaf>")
    for number, block in _MOBILE_CV_BLOCKS
    for theirs, ours in (
        ("conv", ""),
        ("bn", "norm."),
        (r"pw\.conv", "expand."),
        (r"pw\.bn", "expand.norm."),
        (r"dw\.conv", "depthwise."),
        (r"dw\.bn", "depthwise.norm."),
        (r"se\.se\.0\.conv", "squeeze.reduce."),
        (r"se\.se\.1", "squeeze.expand."),
        (r"pwl\.conv", "project."),
        (r"pwl\.bn", "project.norm."),
    )
)


def timm_fbnet(file: str) -> dict[str, Tensor]:
    """An FBNetV3 of timm (RA2 recipe): RGB."""
    return from_timm(fetched(f"{TIMM}/{file}"))


def mobile_cv_fbnet(file: str) -> dict[str, Tensor]:
    """An FBNetV3 of its authors: RGB. They publish no checksums."""
    return from_mobile_cv(fetched(f"{MOBILE_CV}/{file}"))


fbnetv3_b_timm = partial(timm_fbnet, "fbnetv3_b_224-ead5d2a1.pth")
fbnetv3_d_timm = partial(timm_fbnet, "fbnetv3_d_224-c98bce42.pth")
fbnetv3_g_timm = partial(timm_fbnet, "fbnetv3_g_240-0b1df83b.pth")
fbnetv3_d_mobile_cv = partial(mobile_cv_fbnet, "FBNetV3_D_f231225742/model.pth")
fbnetv3_g_mobile_cv = partial(mobile_cv_fbnet, "FBNetV3_G_f226438997/model.pth")


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of timm's fbnetv3_b, d or g -> that of `FBNet`, without the classifier.

    Raises:
        ValueError: an array is of nothing that an FBNet has.
    """
    return renamed(state, TIMM_NAMES, (r"(?:blocks\.6|conv_head|classifier)\..+",), "an FBNetV3")


def from_mobile_cv(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an FBNetV3 of mobile_cv -> that of `FBNet`, without the classifier.

    Raises:
        ValueError: an array is of nothing that an FBNet has.
    """
    classifier = (r"(?:module\.)?(?:backbone\.stages\.xif6_0|head)\..+",)
    return renamed(state, MOBILE_CV_NAMES, classifier, "an FBNetV3")
