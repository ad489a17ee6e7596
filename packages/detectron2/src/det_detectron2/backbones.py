"""Detectron2's backbones, with FPN or without: config to components, names of their arrays to ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from det_detectron2 import mvit, regnet, swin, vit
from det_detectron2.config import NORMS, Detectron2Config
from detkit.foreign_vit import position_grid

Body = Callable[[Detectron2Config], dict[str, Any]]
"""Config -> the tree of a backbone."""

# How the levels above the pyramid are made, by what is before the backbone's name in that of Detectron2's builder;
# "p67" is CenterNet2's word for what Detectron2 has in python configs alone
TOP_LEVELS = {"": "pool", "retinanet_": "res5", "p67_": "p5"}

NAMES = (
    (r"backbone\.(?:bottom_up\.)?(stem\.conv1|res[2-5]\.\d+\.(?:conv[123]|shortcut))\.(.+)", r"backbone.\1.\2"),
    (r"backbone\.(?:bottom_up\.)?(res[2-5]\.\d+\.conv2)_offset\.(.+)", r"backbone.\1.offset.\2"),
    *mvit.NAMES,
    *regnet.NAMES,
    *swin.NAMES,
    *vit.NAMES,
    (r"roi_heads\.res5\.(\d+\.(?:conv[123]|shortcut))\.(.+)", r"roi_trunk.res5.\1.\2"),
    (r"backbone\.fpn_lateral(\d)\.(.+)", r"neck.lateral.p\1.\2"),
    (r"backbone\.fpn_output(\d)\.(.+)", r"neck.output.p\1.\2"),
    (r"backbone\.top_block\.(p[67])\.(weight|bias)", r"neck.top.\1.\2"),
)


def backbone_and_neck(config: Detectron2Config) -> dict[str, Any]:
    """`backbone`, and `neck`, which is None where there is none."""
    own: dict[str, Body] = {}
    for body in ("resnet", *BODIES):  # an unknown one is read like the first
        own[f"build_{body}_backbone"] = partial(_without_neck, BODIES[body])
        own[f"build_{body}_simple_fpn_backbone"] = partial(_with_simple_pyramid, BODIES[body])
        for prefix, top in TOP_LEVELS.items():
            own[f"build_{prefix}{body}_fpn_backbone"] = partial(_with_pyramid, BODIES[body], top)
    found: dict[str, Any] = config.part("MODEL.BACKBONE.NAME", own)
    return found


def _without_neck(body: Body, config: Detectron2Config) -> dict[str, Any]:
    config.unused("MODEL.FPN")
    return {"backbone": body(config), "neck": None}


def _with_simple_pyramid(body: Body, config: Detectron2Config) -> dict[str, Any]:
    config.unused("MODEL.FPN")
    return {"backbone": body(config), "neck": vit.simple_pyramid(config)}


def _with_pyramid(body: Body, top: str, config: Detectron2Config) -> dict[str, Any]:
    return {"backbone": body(config), "neck": fpn(config, top)}


def _resnet(config: Detectron2Config) -> dict[str, Any]:
    deform = config.take("MODEL.RESNETS.DEFORM_ON_PER_STAGE")
    if not any(deform):
        config.unused("MODEL.RESNETS.DEFORM_MODULATED", "MODEL.RESNETS.DEFORM_NUM_GROUPS")
    return {
        "name": "resnet",
        "depth": config.expect("MODEL.RESNETS.DEPTH", 18, 34, 50, 101, 152),
        **_blocks(config),
        "stem_channels": config.take("MODEL.RESNETS.STEM_OUT_CHANNELS"),
        "freeze_at": config.take("MODEL.BACKBONE.FREEZE_AT"),
        "output_stride": {1: 32, 2: 16}.get(config.expect("MODEL.RESNETS.RES5_DILATION", 1, 2)),
        **_deformable(config, deform),
        "out_features": config.take("MODEL.RESNETS.OUT_FEATURES"),
    }


def _blocks(config: Detectron2Config) -> dict[str, Any]:
    """What all residual blocks share."""
    arguments = {
        "norm": NORMS.get(config.expect("MODEL.RESNETS.NORM", *NORMS), ""),
        "stride_in_1x1": config.take("MODEL.RESNETS.STRIDE_IN_1X1"),
    }
    outputs = config.take("MODEL.RESNETS.RES2_OUT_CHANNELS")
    groups, width = config.take("MODEL.RESNETS.NUM_GROUPS"), config.take("MODEL.RESNETS.WIDTH_PER_GROUP")
    if config.take("MODEL.RESNETS.DEPTH") < 50:  # where Detectron2 wants one group, and its width says nothing
        return {**arguments, "width": outputs, "groups": groups}
    return {**arguments, "width": outputs // 4, "groups": groups, "width_per_group": width}


def _deformable(config: Detectron2Config, stages: list[bool]) -> dict[str, Any]:
    if not any(stages):
        return {}
    return {
        "deform": [f"res{number}" for number, wanted in enumerate(stages, 2) if wanted],
        "deform_groups": config.take("MODEL.RESNETS.DEFORM_NUM_GROUPS"),
        "modulated": config.take("MODEL.RESNETS.DEFORM_MODULATED"),
    }


def res5(config: Detectron2Config) -> dict[str, Any]:
    """The last stage of the ResNet as the trunk of heads on regions, where it is always of bottlenecks."""
    config.expect("MODEL.RESNETS.DEPTH", 50, 101, 152)
    return {"name": "resnet-res5", "depth": config.take("MODEL.RESNETS.DEPTH"), **_blocks(config)}


def fpn(config: Detectron2Config, top: str) -> dict[str, Any]:
    """The pyramid; `top` is what the levels above it are made of."""
    return {
        "name": "fpn",
        "in_features": config.take("MODEL.FPN.IN_FEATURES"),
        "channels": config.take("MODEL.FPN.OUT_CHANNELS"),
        "norm": NORMS.get(config.expect("MODEL.FPN.NORM", *NORMS), ""),
        "fuse": config.expect("MODEL.FPN.FUSE_TYPE", "sum", "avg"),
        "top": top,
    }


def input_spec(config: Detectron2Config) -> dict[str, Any]:
    """How images are prepared. What they are padded to is for the pyramid to say; without one Detectron2 does not."""
    order = config.expect("INPUT.FORMAT", "BGR", "RGB")
    return {
        "channel_order": str(order).lower(),
        "mean": config.take("MODEL.PIXEL_MEAN"),
        "std": config.take("MODEL.PIXEL_STD"),
        "min_size": config.take("INPUT.MIN_SIZE_TEST"),
        "max_size": config.take("INPUT.MAX_SIZE_TEST"),
        "divisor": 1,
        "square": config.take("INPUT.SQUARE", 0),
    }


RESHAPED: Mapping[str, Callable[[Tensor], Tensor]] = {"backbone.pos_embed": position_grid}
"""Our names of arrays that have another shape here -> how they get it."""

BODIES: Mapping[str, Body] = {
    "mvit": mvit.backbone,
    "regnet": regnet.backbone,
    "resnet": _resnet,
    "swin": swin.backbone,
    "vit": vit.backbone,
}
"""Detectron2's name of a backbone -> its mapping. Detectron2 has keys for ResNet alone; those of the others are this
package's, and come from python configs."""
