"""Detectron's (Caffe2) configs as detkit's backbones and pyramids."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from det_detectron2.caffe2_config import DetectronConfig

_RESNETS = re.compile(r"(FPN\.add_fpn_|ResNet\.add_)ResNet(50|101|152)_conv([45])_body")
_VGG16 = "VGG16.add_VGG16_conv5_body"


class Body(NamedTuple):
    """What MODEL.CONV_BODY says.

    has_pyramid: whether an FPN follows; name, depth: of the backbone; last: the number of its last stage, whose map is
        `feature`.
    """

    has_pyramid: bool
    name: str
    depth: int
    last: int
    feature: str


def body_of(config: DetectronConfig) -> Body:
    """What the config says of the body.

    Raises:
        ValueError: it is one without counterpart.
    """
    function = config.take("MODEL.CONV_BODY")
    match = _RESNETS.fullmatch(function)
    if match is None and function != _VGG16:
        raise ValueError(
            f"MODEL.CONV_BODY is {function!r}; only bodies such as FPN.add_fpn_ResNet50_conv5_body, "
            f"ResNet.add_ResNet101_conv4_body and {_VGG16} have a counterpart"
        )
    if match is None:
        body = Body(False, "vgg", 16, 5, "conv5")
    else:
        body = Body(match[1].startswith("FPN"), "resnet", int(match[2]), int(match[3]), f"res{match[3]}")
    config.expect("FPN.FPN_ON", body.has_pyramid)
    return body


def blocks(config: DetectronConfig) -> dict[str, Any]:
    """What all residual blocks of a ResNet share."""
    function = config.expect("RESNETS.TRANS_FUNC", "bottleneck_transformation", "bottleneck_gn_transformation")
    norm = "gn" if "_gn_" in function else "bn"
    config.expect("RESNETS.STEM_FUNC", f"basic_{norm}_stem")
    config.expect("RESNETS.SHORTCUT_FUNC", f"basic_{norm}_shortcut")
    for key in ("DIM_PER_GP", "NUM_GROUPS", "EPSILON"):
        config.expect(f"GROUP_NORM.{key}", config.default(f"GROUP_NORM.{key}"))
    return {
        "depth": body_of(config).depth,
        "norm": "gn" if norm == "gn" else "frozen_bn",
        "stride_in_1x1": config.take("RESNETS.STRIDE_1X1"),
        "groups": config.take("RESNETS.NUM_GROUPS"),
        "width_per_group": config.take("RESNETS.WIDTH_PER_GROUP"),
    }


def backbone(config: DetectronConfig) -> dict[str, Any]:
    """The backbone, the stem and the first stages of which Detectron never trains."""
    body = body_of(config)
    if body.name == "vgg":
        config.unused("RESNETS")
        return {"name": "vgg", "depth": body.depth, "freeze_at": 2, "out_features": [body.feature]}
    last = body.last
    first = levels(config)[0] if body.has_pyramid else last
    return {
        "name": "resnet",
        **blocks(config),
        "freeze_at": 2,
        "output_stride": {1: 32, 2: 16}.get(config.expect("RESNETS.RES5_DILATION", 1, 2)) if last == 5 else 32,
        "out_features": [f"res{stage}" for stage in range(first, last + 1)],
    }


def levels(config: DetectronConfig) -> tuple[int, int]:
    """The finest and the coarsest level of the pyramid, for proposals and heads together."""
    found = []
    for what in ("RPN", "ROI"):
        if config.take(f"FPN.MULTILEVEL_{'ROIS' if what == 'ROI' else what}"):
            found.append((config.take(f"FPN.{what}_MIN_LEVEL"), config.take(f"FPN.{what}_MAX_LEVEL")))
    found = found or [(2, 5)]
    return min(low for low, _ in found), max(high for _, high in found)


def neck(config: DetectronConfig) -> dict[str, Any]:
    """The pyramid.

    Raises:
        ValueError: the levels above it are made in another way than any in Detectron's zoo.
    """
    low, high = levels(config)
    extra = config.take("FPN.EXTRA_CONV_LEVELS")
    top = {5: "", 6: "pool" if not extra else None, 7: "res5" if extra else None}.get(high)
    if top is None:
        raise ValueError(
            f"FPN.EXTRA_CONV_LEVELS is {extra} and the coarsest level {high}; only level 5, level 6 by subsampling and "
            "level 7 by convolutions have a counterpart"
        )
    return {
        "name": "fpn",
        "in_features": [f"res{level}" for level in range(low, 6)],
        "channels": config.take("FPN.DIM"),
        "norm": "gn" if config.take("FPN.USE_GN") else "",
        "top": top,
    }
