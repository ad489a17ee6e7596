"""Detectron2's RegNet, which only its python configs have: config to component, names of its arrays to ours.

The keys MODEL.REGNET are this package's.
"""

from __future__ import annotations

from typing import Any

from det_detectron2.config import NORMS, Detectron2Config
from det_detectron2.lazy import Call, Keys, short_name

_BLOCK = r"backbone\.(?:bottom_up\.)?s(\d)\.b(\d+)\."
_OURS = r"backbone.s\1.{\2-1}."
NAMES = (
    (r"backbone\.(?:bottom_up\.)?stem\.conv\.(weight)", r"backbone.stem.\1"),
    (r"backbone\.(?:bottom_up\.)?stem\.bn\.(.+)", r"backbone.stem.norm.\1"),
    (_BLOCK + r"proj\.(weight)", _OURS + r"shortcut.\3"),
    (_BLOCK + r"bn\.(.+)", _OURS + r"shortcut.norm.\3"),
    (_BLOCK + r"f\.a\.(weight)", _OURS + r"conv1.\3"),
    (_BLOCK + r"f\.a_bn\.(.+)", _OURS + r"conv1.norm.\3"),
    (_BLOCK + r"f\.b\.(weight)", _OURS + r"conv2.\3"),
    (_BLOCK + r"f\.b_bn\.(.+)", _OURS + r"conv2.norm.\3"),
    (_BLOCK + r"f\.se\.f_ex\.0\.(weight|bias)", _OURS + r"excite.fc1.\3"),
    (_BLOCK + r"f\.se\.f_ex\.2\.(weight|bias)", _OURS + r"excite.fc2.\3"),
    (_BLOCK + r"f\.c\.(weight)", _OURS + r"conv3.\3"),
    (_BLOCK + r"f\.c_bn\.(.+)", _OURS + r"conv3.norm.\3"),
)


def backbone(config: Detectron2Config) -> dict[str, Any]:
    """The component."""
    config.unused("MODEL.RESNETS")
    section = "MODEL.REGNET"
    return {
        "name": "regnet",
        "depth": config.take(f"{section}.DEPTH"),
        "w_a": config.take(f"{section}.W_A"),
        "w_0": config.take(f"{section}.W_0"),
        "w_m": config.take(f"{section}.W_M"),
        "group_width": config.take(f"{section}.GROUP_WIDTH"),
        "se_ratio": config.take(f"{section}.SE_RATIO"),
        "stem_width": config.take(f"{section}.STEM_WIDTH"),
        "norm": NORMS.get(config.expect(f"{section}.NORM", *NORMS), ""),
        "freeze_at": config.take("MODEL.BACKBONE.FREEZE_AT"),
        "out_features": config.take(f"{section}.OUT_FEATURES"),
    }


def target(call: Call) -> Keys:
    """What a call of RegNet means in keys."""
    for argument, wanted in (("stem_class", "SimpleStem"), ("block_class", "ResBottleneckBlock")):
        given = str(call.take(argument))
        if short_name(given) != wanted:
            call.refuse(argument, given, wanted)
    call.expect("stride", 2)
    call.expect("bottleneck_ratio", 1.0)
    call.expect("activation_class", None)  # ReLU
    return {
        "MODEL.BACKBONE.NAME": "build_regnet_backbone",
        "MODEL.BACKBONE.FREEZE_AT": call.take("freeze_at", 0),
        "MODEL.REGNET.DEPTH": call.take("depth"),
        "MODEL.REGNET.W_A": call.take("w_a"),
        "MODEL.REGNET.W_0": call.take("w_0"),
        "MODEL.REGNET.W_M": call.take("w_m"),
        "MODEL.REGNET.GROUP_WIDTH": call.take("group_width"),
        "MODEL.REGNET.SE_RATIO": call.take("se_ratio", 0.0),
        "MODEL.REGNET.STEM_WIDTH": call.take("stem_width"),
        "MODEL.REGNET.NORM": call.norm("norm", "BN"),
        "MODEL.REGNET.OUT_FEATURES": call.take("out_features", None) or ["s4"],
    }
