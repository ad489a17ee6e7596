"""Detectron2's MViT, which python configs alone have: to our component, by way of keys `MODEL.MVIT`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from det_detectron2.config import Detectron2Config
from det_detectron2.lazy import Call, Keys
from det_detectron2.lazy_parts import layer_norm_eps

_BODY = r"backbone\.(?:bottom_up\.)?"
NAMES = (
    (_BODY + r"(patch_embed\.proj\.\w+)", r"backbone.\1"),
    (_BODY + r"(blocks\.\d+\.(?:norm[12]|attn|mlp|proj)\..+)", r"backbone.\1"),
    (_BODY + r"(scale\d)_norm\.(\w+)", r"backbone.norms.\1.\2"),
)


def target(call: Call) -> Keys:
    """What a call of detectron2.modeling.MViT means."""
    call.expect("in_chans", 3)
    call.expect("patch_kernel", [7, 7])
    call.expect("patch_stride", [4, 4])
    call.expect("patch_padding", [3, 3])
    call.expect("qkv_pool_kernel", [3, 3])
    call.expect("act_layer", "torch.nn.modules.activation.GELU", "torch.nn.GELU")
    call.expect("use_rel_pos", True)
    call.expect("use_abs_pos", False)
    call.follows("rel_pos_zero_init", "pretrain_img_size", "pretrain_use_cls_token")
    scales = [f"scale{number}" for number in range(2, 6)]
    features = call.take("out_features", scales)
    if scales[-1] not in features:  # Detectron2 makes the last stages all the same
        call.refuse("out_features", features, f"a list with {scales[-1]}")
    window = call.take("adaptive_window_size", 56)
    if window % 8:
        call.refuse("adaptive_window_size", window, "a multiple of 8, which windows of all stages can be made of,")
    return {
        "MODEL.BACKBONE.NAME": "build_mvit_backbone",
        "MODEL.MVIT.IMG_SIZE": call.take("img_size", 224),
        "MODEL.MVIT.EMBED_DIM": call.take("embed_dim", 96),
        "MODEL.MVIT.DEPTHS": _depths(call),
        "MODEL.MVIT.NUM_HEADS": call.take("num_heads", 1),
        "MODEL.MVIT.KV_STRIDE": call.expect("adaptive_kv_stride", 4, 1, 2, 8),
        "MODEL.MVIT.WINDOW_SIZE": window,
        "MODEL.MVIT.RESIDUAL_POOLING": call.take("residual_pooling", True),
        "MODEL.MVIT.MLP_RATIO": call.take("mlp_ratio", 4.0),
        "MODEL.MVIT.QKV_BIAS": call.take("qkv_bias", True),
        "MODEL.MVIT.DROP_PATH_RATE": call.take("drop_path_rate", 0.0),
        "MODEL.MVIT.NORM_EPS": layer_norm_eps(call, "norm_layer"),
        "MODEL.MVIT.USE_ACT_CHECKPOINT": call.take("use_act_checkpoint", False),
        "MODEL.MVIT.OUT_FEATURES": features,
    }


def _depths(call: Call) -> list[int]:
    """How many blocks each stage has, of which a config gives the positions of the last ones."""
    depth = call.take("depth", 16)
    ends: Sequence[int] = call.take("last_block_indexes", [0, 2, 11, 15])
    depths = [after - before for before, after in pairwise([-1, *ends])]
    if len(depths) != 4 or min(depths) < 1 or ends[-1] != depth - 1:
        call.refuse("last_block_indexes", ends, f"four rising positions, the last of them {depth - 1},")
    return depths


def backbone(config: Detectron2Config) -> dict[str, Any]:
    """The component."""
    config.unused("MODEL.RESNETS", "MODEL.BACKBONE.FREEZE_AT")
    section = "MODEL.MVIT"
    return {
        "name": "mvit",
        "embed_dim": config.take(f"{section}.EMBED_DIM"),
        "depths": config.take(f"{section}.DEPTHS"),
        "num_heads": config.take(f"{section}.NUM_HEADS"),
        "kv_stride": config.take(f"{section}.KV_STRIDE"),
        "window": config.take(f"{section}.WINDOW_SIZE"),
        "image_size": config.take(f"{section}.IMG_SIZE"),
        "mlp_ratio": config.take(f"{section}.MLP_RATIO"),
        "qkv_bias": config.take(f"{section}.QKV_BIAS"),
        "residual_pooling": config.take(f"{section}.RESIDUAL_POOLING"),
        "drop_path": config.take(f"{section}.DROP_PATH_RATE"),
        "norm_eps": config.take(f"{section}.NORM_EPS"),
        "checkpointing": config.take(f"{section}.USE_ACT_CHECKPOINT"),
        "out_features": config.take(f"{section}.OUT_FEATURES"),
    }
