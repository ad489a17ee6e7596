"""Detectron2's ViT and its SimpleFeaturePyramid, which only its python configs have: config to components, names of
their arrays to ours.

The keys MODEL.VIT and MODEL.SIMPLE_FPN are this package's.
"""

from __future__ import annotations

from typing import Any

from det_detectron2.config import NORMS, Detectron2Config
from det_detectron2.lazy import Call, Keys
from det_detectron2.lazy_parts import layer_norm_eps

_NET = r"backbone\.(?:net\.)?"
NAMES = (
    (_NET + r"(pos_embed|patch_embed\.proj\.\w+)", r"backbone.\1"),
    (_NET + r"(blocks\.\d+\.(?:norm[12]|attn|mlp|residual\.conv[123])\..+)", r"backbone.\1"),
    (_NET + r"(blocks\.\d+\.residual)\.norm([123])\.(weight|bias)", r"backbone.\1.conv\2.norm.\3"),
    (r"backbone\.simfp_(\d)\.(.+)", r"neck.levels.p\1.\2"),
)


def target(call: Call) -> Keys:
    """What a call of ViT means in keys."""
    call.expect("in_chans", 3)
    call.expect("act_layer", "torch.nn.modules.activation.GELU", "torch.nn.GELU")
    call.expect("out_feature", "last_feat")
    call.follows("rel_pos_zero_init", "pretrain_use_cls_token")  # the token's position is left out where there is one
    return {
        "MODEL.BACKBONE.NAME": "build_vit_backbone",
        "MODEL.VIT.IMG_SIZE": call.take("img_size", 1024),
        "MODEL.VIT.PATCH_SIZE": call.take("patch_size", 16),
        "MODEL.VIT.EMBED_DIM": call.take("embed_dim", 768),
        "MODEL.VIT.DEPTH": call.take("depth", 12),
        "MODEL.VIT.NUM_HEADS": call.take("num_heads", 12),
        "MODEL.VIT.MLP_RATIO": call.take("mlp_ratio", 4.0),
        "MODEL.VIT.QKV_BIAS": call.take("qkv_bias", True),
        "MODEL.VIT.DROP_PATH_RATE": call.take("drop_path_rate", 0.0),
        "MODEL.VIT.NORM_EPS": layer_norm_eps(call, "norm_layer"),
        "MODEL.VIT.USE_ABS_POS": call.take("use_abs_pos", True),
        "MODEL.VIT.USE_REL_POS": call.take("use_rel_pos", False),
        "MODEL.VIT.WINDOW_SIZE": call.take("window_size", 0),
        "MODEL.VIT.WINDOW_BLOCK_INDEXES": call.take("window_block_indexes", []),
        "MODEL.VIT.RESIDUAL_BLOCK_INDEXES": call.take("residual_block_indexes", []),
        "MODEL.VIT.USE_ACT_CHECKPOINT": call.take("use_act_checkpoint", False),
        "MODEL.VIT.PRETRAIN_IMG_SIZE": call.take("pretrain_img_size", 224),
    }


def backbone(config: Detectron2Config) -> dict[str, Any]:
    """The component."""
    config.unused("MODEL.RESNETS", "MODEL.BACKBONE.FREEZE_AT")
    depth, window = config.take("MODEL.VIT.DEPTH"), config.take("MODEL.VIT.WINDOW_SIZE")
    windowed = config.take("MODEL.VIT.WINDOW_BLOCK_INDEXES")
    windows = window > 0 and len(windowed) > 0
    return {
        "name": "vit",
        "embed_dim": config.take("MODEL.VIT.EMBED_DIM"),
        "depth": depth,
        "num_heads": config.take("MODEL.VIT.NUM_HEADS"),
        "patch": config.take("MODEL.VIT.PATCH_SIZE"),
        "mlp_ratio": config.take("MODEL.VIT.MLP_RATIO"),
        "qkv_bias": config.take("MODEL.VIT.QKV_BIAS"),
        "window": window if windows else 0,
        "global_blocks": [number for number in range(depth) if number not in windowed] if windows else None,
        "residual_blocks": config.take("MODEL.VIT.RESIDUAL_BLOCK_INDEXES"),
        "absolute_positions": config.take("MODEL.VIT.USE_ABS_POS"),
        "relative_positions": config.take("MODEL.VIT.USE_REL_POS"),
        "image_size": config.take("MODEL.VIT.IMG_SIZE"),
        "pretrain_size": config.take("MODEL.VIT.PRETRAIN_IMG_SIZE"),
        "drop_path": config.take("MODEL.VIT.DROP_PATH_RATE"),
        "norm_eps": config.take("MODEL.VIT.NORM_EPS"),
        "checkpointing": config.take("MODEL.VIT.USE_ACT_CHECKPOINT"),
    }


def simple_pyramid_target(call: Call) -> Keys:
    """What a call of SimpleFeaturePyramid means in keys."""
    keys = call.keys("net")
    top = ""
    if call.take("top_block", None) is not None:
        call.child("top_block", "LastLevelMaxPool")
        top = "pool"
    kind = keys["MODEL.BACKBONE.NAME"].removeprefix("build_").removesuffix("_backbone")
    return {
        **keys,
        "MODEL.BACKBONE.NAME": f"build_{kind}_simple_fpn_backbone",
        "MODEL.SIMPLE_FPN.IN_FEATURE": call.take("in_feature"),
        "MODEL.SIMPLE_FPN.OUT_CHANNELS": call.take("out_channels"),
        "MODEL.SIMPLE_FPN.SCALE_FACTORS": call.take("scale_factors"),
        "MODEL.SIMPLE_FPN.NORM": call.norm("norm", "LN"),
        "MODEL.SIMPLE_FPN.TOP": top,
        "INPUT.SQUARE": call.take("square_pad", 0),
    }


def simple_pyramid(config: Detectron2Config) -> dict[str, Any]:
    """The neck."""
    return {
        "name": "simple-fpn",
        "in_feature": config.take("MODEL.SIMPLE_FPN.IN_FEATURE"),
        "channels": config.take("MODEL.SIMPLE_FPN.OUT_CHANNELS"),
        "scales": config.take("MODEL.SIMPLE_FPN.SCALE_FACTORS"),
        "norm": NORMS.get(config.expect("MODEL.SIMPLE_FPN.NORM", *NORMS), ""),
        "top": config.take("MODEL.SIMPLE_FPN.TOP"),
    }
