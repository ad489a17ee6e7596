"""Detectron2's Swin Transformer, which python configs alone have: to our component, by way of keys `MODEL.SWIN`."""

from __future__ import annotations

from typing import Any

from det_detectron2.config import Detectron2Config
from det_detectron2.lazy import Call, Keys
from det_detectron2.lazy_parts import layer_norm_eps

PATCH = 4  # pixels

NAMES = (
    (
        r"backbone\.(?:bottom_up\.)?"
        r"(absolute_pos_embed|patch_embed\.(?:proj|norm)\.\w+|norm\d\.\w+|layers\.\d+\.(?:blocks\.\d+|downsample)\..+)",
        r"backbone.\1",
    ),
)

DERIVED = (r"backbone\.(?:bottom_up\.)?layers\..+\.relative_position_index",)


def target(call: Call) -> Keys:
    """What a call of detectron2.modeling.SwinTransformer means."""
    call.expect("patch_size", PATCH, [PATCH, PATCH])
    call.expect("in_chans", 3)
    if (eps := layer_norm_eps(call, "norm_layer")) != 1e-5:
        call.refuse("norm_layer", f"torch.nn.LayerNorm with an eps of {eps}", "one of 1e-05")
    call.expect("qk_scale", None)
    call.expect("drop_rate", 0.0)
    call.expect("attn_drop_rate", 0.0)
    depths = call.take("depths", [2, 2, 6, 2])
    stages = call.take("out_indices", list(range(4)))
    if len(depths) - 1 not in stages:  # Detectron2 makes the last stages all the same
        call.refuse("out_indices", stages, f"a list with the last stage, {len(depths) - 1},")
    absolute, side = call.take("ape", False), call.take("pretrain_img_size", 224)
    if not isinstance(side, int):
        side = call.same("pretrain_img_size", side, 224)
    frozen = call.take("frozen_stages", -1)
    if absolute and frozen == 0:
        call.refuse("frozen_stages", frozen, "-1, or 1 and more where there are absolute positions,")
    return {
        "MODEL.BACKBONE.NAME": "build_swin_backbone",
        "MODEL.BACKBONE.FREEZE_AT": max(frozen, 1) if frozen >= 0 else 0,
        "MODEL.SWIN.EMBED_DIM": call.take("embed_dim", 96),
        "MODEL.SWIN.DEPTHS": depths,
        "MODEL.SWIN.NUM_HEADS": call.take("num_heads", [3, 6, 12, 24]),
        "MODEL.SWIN.WINDOW_SIZE": call.take("window_size", 7),
        "MODEL.SWIN.MLP_RATIO": call.take("mlp_ratio", 4.0),
        "MODEL.SWIN.QKV_BIAS": call.take("qkv_bias", True),
        "MODEL.SWIN.PATCH_NORM": call.take("patch_norm", True),
        "MODEL.SWIN.ABSOLUTE_POSITIONS": side // PATCH if absolute else 0,
        "MODEL.SWIN.DROP_PATH_RATE": call.take("drop_path_rate", 0.2),
        "MODEL.SWIN.USE_CHECKPOINT": call.take("use_checkpoint", False),
        "MODEL.SWIN.OUT_FEATURES": [f"p{stage}" for stage in stages],
    }


def backbone(config: Detectron2Config) -> dict[str, Any]:
    """The component."""
    config.unused("MODEL.RESNETS")
    return {
        "name": "swin",
        "freeze_at": config.take("MODEL.BACKBONE.FREEZE_AT"),
        "embed_dim": config.take("MODEL.SWIN.EMBED_DIM"),
        "depths": config.take("MODEL.SWIN.DEPTHS"),
        "num_heads": config.take("MODEL.SWIN.NUM_HEADS"),
        "window": config.take("MODEL.SWIN.WINDOW_SIZE"),
        "mlp_ratio": config.take("MODEL.SWIN.MLP_RATIO"),
        "qkv_bias": config.take("MODEL.SWIN.QKV_BIAS"),
        "patch_norm": config.take("MODEL.SWIN.PATCH_NORM"),
        "absolute_positions": config.take("MODEL.SWIN.ABSOLUTE_POSITIONS"),
        "drop_path": config.take("MODEL.SWIN.DROP_PATH_RATE"),
        "checkpointing": config.take("MODEL.SWIN.USE_CHECKPOINT"),
        "out_features": config.take("MODEL.SWIN.OUT_FEATURES"),
    }
