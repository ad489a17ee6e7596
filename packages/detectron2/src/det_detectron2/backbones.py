"""Detectron2's backbones, with FPN or without: config to components, names of their arrays to ours."""

from __future__ import annotations

from typing import Any

from det_detectron2.config import Detectron2Config

NORMS = {"": "", "BN": "bn", "SyncBN": "sync_bn", "FrozenBN": "frozen_bn", "GN": "gn"}

NAMES = (
    (r"backbone\.bottom_up\.(stem\.conv1|res[2-5]\.\d+\.(?:conv[123]|shortcut))\.(.+)", r"backbone.\1.\2"),
    (r"backbone\.fpn_lateral(\d)\.(.+)", r"neck.lateral.p\1.\2"),
    (r"backbone\.fpn_output(\d)\.(.+)", r"neck.output.p\1.\2"),
)


def backbone_and_neck(config: Detectron2Config) -> dict[str, Any]:
    """`backbone`, and `neck` where there is one."""
    config.expect("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone")
    return {"backbone": _resnet(config), "neck": _fpn(config)}


def _resnet(config: Detectron2Config) -> dict[str, Any]:
    depth = config.expect("MODEL.RESNETS.DEPTH", 18, 34, 50, 101, 152)
    config.expect("MODEL.RESNETS.NUM_GROUPS", 1)
    config.expect("MODEL.RESNETS.WIDTH_PER_GROUP", 64)
    config.expect("MODEL.RESNETS.STEM_OUT_CHANNELS", 64)
    config.expect("MODEL.RESNETS.RES2_OUT_CHANNELS", 256 if depth >= 50 else 64)
    config.expect("MODEL.RESNETS.RES5_DILATION", 1)
    config.expect("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False] * 4)
    config.unused("MODEL.RESNETS.DEFORM_MODULATED", "MODEL.RESNETS.DEFORM_NUM_GROUPS")
    return {
        "name": "resnet",
        "depth": depth,
        "norm": NORMS.get(config.expect("MODEL.RESNETS.NORM", *NORMS), ""),
        "freeze_at": config.take("MODEL.BACKBONE.FREEZE_AT"),
        "stride_in_1x1": config.take("MODEL.RESNETS.STRIDE_IN_1X1"),
        "out_features": config.take("MODEL.RESNETS.OUT_FEATURES"),
    }


def _fpn(config: Detectron2Config) -> dict[str, Any]:
    config.expect("MODEL.FPN.FUSE_TYPE", "sum")
    return {
        "name": "fpn",
        "in_features": config.take("MODEL.FPN.IN_FEATURES"),
        "channels": config.take("MODEL.FPN.OUT_CHANNELS"),
        "norm": NORMS.get(config.expect("MODEL.FPN.NORM", *NORMS), ""),
    }


def input_spec(config: Detectron2Config) -> dict[str, Any]:
    """How images are prepared."""
    order = config.expect("INPUT.FORMAT", "BGR", "RGB")
    return {
        "channel_order": str(order).lower(),
        "mean": config.take("MODEL.PIXEL_MEAN"),
        "std": config.take("MODEL.PIXEL_STD"),
        "min_size": config.take("INPUT.MIN_SIZE_TEST"),
        "max_size": config.take("INPUT.MAX_SIZE_TEST"),
        "divisor": 32,
    }
