"""What Detectron2's projects PointRend and PointSup mean: their keys to components, names of their arrays to ours.

The only module that knows det-detectron2, which imports it when a config names one of these parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from det_detectron2 import roi_heads, semantic
from det_detectron2.config import Detectron2Config
from det_detectron2.mapping import Detectron2Mapping

MASK, POINT, IMPLICIT = "MODEL.ROI_MASK_HEAD", "MODEL.POINT_HEAD", "MODEL.IMPLICIT_POINTREND"
TRAINING = ("INPUT.COLOR_AUG_SSD", "INPUT.POINT_SUP", "INPUT.SAMPLE_POINTS")
OF_MASKS = tuple(
    f"{MASK}.{key}" for key in ("FC_DIM", "IN_FEATURES", "NUM_FC", "OUTPUT_SIDE_RESOLUTION", "POINT_HEAD_ON")
)
KEYS = (*TRAINING, *OF_MASKS, POINT, IMPLICIT)
"""What the projects add to every config."""


def _roi_heads(config: Detectron2Config) -> dict[str, Any]:
    """The standard heads: the name tells Detectron2 to mend the names of old checkpoints, which rules here do."""
    return roi_heads.standard_heads(config)


def _region_network(config: Detectron2Config) -> dict[str, Any]:
    """What is predicted from a region as a whole."""
    config.unused(f"{MASK}.CLS_AGNOSTIC_MASK", f"{MASK}.NORM", f"{MASK}.NUM_CONV", f"{MASK}.POOLER_SAMPLING_RATIO")
    return {
        "num_classes": config.take("MODEL.ROI_HEADS.NUM_CLASSES"),
        "in_features": config.take(f"{MASK}.IN_FEATURES"),
        "pool_size": config.take(f"{MASK}.POOLER_RESOLUTION"),
    }


def _points(config: Detectron2Config, num_classes: int) -> dict[str, Any]:
    """The network of points, and how masks are rendered."""
    config.unused(*TRAINING)
    config.expect(f"{POINT}.NUM_CLASSES", num_classes)
    return {
        "point_features": config.take(f"{POINT}.IN_FEATURES"),
        "point_layers": config.take(f"{POINT}.NUM_FC"),
        "point_channels": config.take(f"{POINT}.FC_DIM"),
        "subdivision": {
            "steps": config.take(f"{POINT}.SUBDIVISION_STEPS"),
            "points": config.take(f"{POINT}.SUBDIVISION_NUM_POINTS"),
        },
    }


def _sampling(config: Detectron2Config) -> dict[str, Any]:
    return {
        "count": config.take(f"{POINT}.TRAIN_NUM_POINTS"),
        "oversample": config.take(f"{POINT}.OVERSAMPLE_RATIO"),
        "importance": config.take(f"{POINT}.IMPORTANCE_SAMPLE_RATIO"),
    }


def _mask_head(config: Detectron2Config) -> dict[str, Any]:
    config.expect(f"{MASK}.POOLER_TYPE", "")  # else the head would be given regions instead of maps
    return _old_mask_head(config)


def _old_mask_head(config: Detectron2Config) -> dict[str, Any]:
    """As of 2020: the name was that of the coarse part, and the pooler was not looked at."""
    config.unused(IMPLICIT, f"{POINT}.COARSE_SEM_SEG_HEAD_NAME", f"{MASK}.POOLER_TYPE")
    config.expect(f"{MASK}.POINT_HEAD_ON", True)
    config.expect(f"{POINT}.NAME", "StandardPointHead")
    region = _region_network(config)
    return {
        "name": "pointrend",
        **region,
        "coarse_channels": config.take(f"{MASK}.CONV_DIM"),
        "coarse_layers": config.take(f"{MASK}.NUM_FC"),
        "coarse_width": config.take(f"{MASK}.FC_DIM"),
        "coarse_size": config.take(f"{MASK}.OUTPUT_SIDE_RESOLUTION"),
        **_points(config, region["num_classes"]),
        "coarse_each_layer": config.take(f"{POINT}.COARSE_PRED_EACH_LAYER"),
        "class_agnostic": config.take(f"{POINT}.CLS_AGNOSTIC_MASK"),
        "sampling": _sampling(config),
    }


def _implicit_head(config: Detectron2Config) -> dict[str, Any]:
    return {**_implicit(config), "train_points": config.take(f"{POINT}.TRAIN_NUM_POINTS")}


def _implicit(config: Detectron2Config) -> dict[str, Any]:
    config.expect(f"{MASK}.POOLER_TYPE", "")
    config.expect(f"{POINT}.NAME", "ImplicitPointHead")
    config.unused(f"{MASK}.OUTPUT_SIDE_RESOLUTION", f"{MASK}.POINT_HEAD_ON")
    config.unused(*(f"{POINT}.{key}" for key in ("OVERSAMPLE_RATIO", "IMPORTANCE_SAMPLE_RATIO")))
    config.unused(*(f"{POINT}.{key}" for key in ("COARSE_PRED_EACH_LAYER", "COARSE_SEM_SEG_HEAD_NAME")))
    region = _region_network(config)
    points = _points(config, region["num_classes"])
    if not config.take(f"{IMPLICIT}.IMAGE_FEATURE_ENABLED"):
        points["point_features"] = []
    return {
        "name": "implicit-pointrend",
        **region,
        "channels": config.take(f"{MASK}.CONV_DIM"),
        "layers": config.take(f"{MASK}.NUM_FC"),
        "width": config.take(f"{MASK}.FC_DIM"),
        **points,
        "position_channels": 256 if config.take(f"{IMPLICIT}.POS_ENC_ENABLED") else 0,
        "class_agnostic": config.take(f"{POINT}.CLS_AGNOSTIC_MASK"),
        "parameter_decay": config.take(f"{IMPLICIT}.PARAMS_L2_REGULARIZER"),
    }


def _point_sup_head(config: Detectron2Config) -> dict[str, Any]:
    config.unused(*KEYS)
    return {**roi_heads.mask_head(config), "name": "mask-point-sup"}


def _implicit_point_sup_head(config: Detectron2Config) -> dict[str, Any]:
    config.unused(f"{POINT}.TRAIN_NUM_POINTS")
    return {**_implicit(config), "train_points": None}


def _semantic_head(config: Detectron2Config) -> dict[str, Any]:
    config.unused(IMPLICIT, f"{POINT}.CLS_AGNOSTIC_MASK")
    config.expect(f"{POINT}.NAME", "StandardPointHead")
    coarse = semantic.semantic_head(config, f"{POINT}.COARSE_SEM_SEG_HEAD_NAME")
    num_classes = config.take("MODEL.SEM_SEG_HEAD.NUM_CLASSES")
    return {
        "name": "pointrend",
        "num_semantic_classes": num_classes,
        "coarse": coarse,
        **_points(config, num_classes),
        "coarse_each_layer": config.take(f"{POINT}.COARSE_PRED_EACH_LAYER"),
        "sampling": _sampling(config),
    }


def _region_names(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Of the network on a region; the fully connected layers had a longer name once."""
    return (
        (rf"{theirs}\.reduce_channel_dim_conv\.(weight|bias)", rf"{ours}.reduce.\1"),
        (rf"{theirs}\.reduce_spatial_dim_conv\.(weight|bias)", rf"{ours}.halve.\1"),
        (rf"{theirs}\.(?:coarse_mask_)?fc(\d+)\.(weight|bias)", rf"{ours}.linears.{{\1-1}}.\2"),
    )


def _point_names(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    return (
        (rf"{theirs}\.fc(\d+)\.(weight|bias)", rf"{ours}.layers.{{\1-1}}.\2"),
        (rf"{theirs}\.predictor\.(weight|bias)", rf"{ours}.predictor.\1"),
    )


def _split_prediction(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One layer predicts all parameters of regions' networks there: all weights, then all biases."""
    network = "heads.mask.network"
    parts = [f"{network}.{part}" for part in ("hidden_weight", "last_weight", "hidden_bias", "last_bias")]
    for leaf in ("weight", "bias"):
        whole = state.pop(f"{network}.all.{leaf}", None)
        names = [f"{part}.{leaf}" for part in parts]
        if whole is None:
            continue
        sizes = [len(own[name]) for name in names]
        if sum(sizes) == len(whole):
            state |= dict(zip(names, torch.split(whole, sizes), strict=True))
        else:
            state[names[0]] = whole  # of a shape that the message will name
    return state


_COARSE = r"roi_heads\.(?:mask_head\.coarse_head|mask_coarse_head)"
_AT_POINTS = r"roi_heads\.(?:mask_head\.point_head|mask_point_head)"
_PARAMETERS = r"roi_heads\.mask_head\.parameter_head"
_PIXELS = r"sem_seg_head\.coarse_sem_seg_head"

_MASK_NAMES = (
    *_region_names(_COARSE, "heads.mask.coarse"),
    (rf"{_COARSE}\.prediction\.(weight|bias)", r"heads.mask.coarse_predictor.\1"),
    *_point_names(_AT_POINTS, "heads.mask.points"),
)
_IMPLICIT_NAMES = (
    *_region_names(_PARAMETERS, "heads.mask.trunk"),
    (rf"{_PARAMETERS}\.prediction\.(weight|bias)", r"heads.mask.network.all.\1"),
    (rf"{_AT_POINTS}\.positional_encoding_gaussian_matrix", "heads.mask.network.frequencies"),
)

ROI_HEADS = Detectron2Mapping(tree=_roi_heads, keys=KEYS)
MASK_HEAD = Detectron2Mapping(tree=_mask_head, names=_MASK_NAMES, keys=KEYS)
OLD_MASK_HEAD = Detectron2Mapping(tree=_old_mask_head, names=_MASK_NAMES, keys=KEYS)
IMPLICIT_HEAD = Detectron2Mapping(tree=_implicit_head, names=_IMPLICIT_NAMES, fit=_split_prediction, keys=KEYS)
POINT_SUP_HEAD = Detectron2Mapping(tree=_point_sup_head, keys=KEYS)
IMPLICIT_POINT_SUP_HEAD = Detectron2Mapping(
    tree=_implicit_point_sup_head, names=_IMPLICIT_NAMES, fit=_split_prediction, keys=KEYS
)
SEMANTIC_HEAD = Detectron2Mapping(
    tree=_semantic_head,
    names=(
        (rf"{_PIXELS}\.predictor\.(weight|bias)", r"semantic_head.coarse.predictor.\1"),
        (rf"{_PIXELS}\.([^.]+)\.(\d+)\.(.+)", r"semantic_head.coarse.levels.\1.\2.\3"),
        *_point_names(r"sem_seg_head\.point_head", "semantic_head.points"),
    ),
    keys=KEYS,
)
