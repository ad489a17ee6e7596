"""Detectron2's python configs with MViT."""

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from det_backbones.mvit import MViT
from det_detectron2.architectures import ARCHITECTURES
from det_detectron2.backbones import NAMES
from det_detectron2.config import Detectron2Config
from det_detectron2.lazy import LazyLoader
from detkit.foreign import rename

SCALES = ["scale2", "scale3", "scale4", "scale5"]
DEFAULTS = {
    "name": "mvit",
    "embed_dim": 96,
    "depths": [1, 2, 9, 4],
    "num_heads": 1,
    "kv_stride": 4,
    "window": 56,
    "image_size": 224,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "residual_pooling": True,
    "drop_path": 0.0,
    "norm_eps": 1e-5,
    "checkpointing": False,
    "out_features": SCALES,
}
TINY = {"embed_dim": 8, "depth": 5, "last_block_indexes": [0, 2, 3, 4], "img_size": 64, "adaptive_window_size": 8}


def read(folder: Path, *, pyramid: dict[str, Any] | None = None, **arguments: Any) -> Detectron2Config:
    """The Mask R-CNN of the tests with an MViT, as Detectron2 dumps it."""
    tree = yaml.load((Path(__file__).parent / "lazy_mask_rcnn.yaml").read_text(), LazyLoader)
    tree["model"]["backbone"] |= {
        "bottom_up": {"_target_": "detectron2.modeling.MViT", **arguments},
        "in_features": "${.bottom_up.out_features}" if "out_features" in arguments else SCALES,
        **(pyramid or {}),
    }
    (folder / "config.yaml").write_text(yaml.dump(tree))
    return Detectron2Config.read(folder / "config.yaml")


def model_tree(config: Detectron2Config) -> dict[str, Any]:
    return ARCHITECTURES[config.take("MODEL.META_ARCHITECTURE")].tree(config)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {}),
        (
            {"embed_dim": 192, "depth": 80, "num_heads": 3, "last_block_indexes": (3, 11, 71, 79)},
            {"embed_dim": 192, "depths": [4, 8, 60, 8], "num_heads": 3},
        ),
        (
            {"drop_path_rate": 0.6, "use_act_checkpoint": True, "residual_pooling": False},
            {"drop_path": 0.6, "checkpointing": True, "residual_pooling": False},
        ),
        (
            {"img_size": 384, "adaptive_kv_stride": 2, "adaptive_window_size": 0, "mlp_ratio": 2.0, "qkv_bias": False},
            {"image_size": 384, "kv_stride": 2, "window": 0, "mlp_ratio": 2.0, "qkv_bias": False},
        ),
        ({"norm_layer": functools.partial(nn.LayerNorm, eps=1e-6)}, {"norm_eps": 1e-6}),
        ({"norm_layer": str(functools.partial(nn.LayerNorm, eps=1e-6))}, {"norm_eps": 1e-6}),
        ({"norm_layer": nn.LayerNorm, "act_layer": nn.GELU}, {}),
        ({"in_chans": 3, "patch_kernel": (7, 7), "patch_stride": (4, 4), "patch_padding": (3, 3)}, {}),
        ({"use_abs_pos": False, "use_rel_pos": True, "pretrain_img_size": 224, "pretrain_use_cls_token": True}, {}),
        ({"out_features": ("scale4", "scale5")}, {"out_features": ["scale4", "scale5"]}),
    ],
)
def test_the_arguments_are_detectron2s(arguments: dict, expected: dict, tmp_path: Path) -> None:
    config = read(tmp_path, **arguments)
    tree = model_tree(config)
    assert config.problems() == []
    assert tree["backbone"] == DEFAULTS | expected
    assert tree["neck"]["in_features"] == tree["backbone"]["out_features"]


def test_the_pyramid_may_have_layer_norm_and_squares(tmp_path: Path) -> None:
    config = read(tmp_path, pyramid={"norm": "LN", "square_pad": 1024})
    tree = model_tree(config)
    assert config.problems() == []
    assert (tree["neck"]["norm"], tree["input"]["square"]) == ("ln", 1024)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"use_abs_pos": True}, "use_abs_pos is True; only False has a counterpart"),
        ({"use_rel_pos": False}, "use_rel_pos is False; only True"),
        ({"patch_stride": [8, 8]}, r"patch_stride is \[8, 8\]; only \[4, 4\]"),
        ({"qkv_pool_kernel": [5, 5]}, r"qkv_pool_kernel is \[5, 5\]; only \[3, 3\]"),
        ({"adaptive_window_size": 28}, "adaptive_window_size is 28; only a multiple of 8"),
        ({"adaptive_kv_stride": 3}, "adaptive_kv_stride is 3; only 4 or 1 or 2 or 8"),
        (
            {"last_block_indexes": [0, 2, 11, 14]},
            "last_block_indexes .*; only four rising positions, the last of them 15",
        ),
        ({"last_block_indexes": [2, 2, 11, 15]}, "four rising positions"),
        ({"out_features": ["scale3"]}, "out_features .*; only a list with scale5"),
        ({"act_layer": nn.ReLU}, "act_layer is 'torch.nn.modules.activation.ReLU'; only"),
        (
            {"norm_layer": nn.BatchNorm2d},
            "norm_layer is 'torch.nn.modules.batchnorm.BatchNorm2d'; only torch.nn.LayerN",
        ),
        ({"frozen_stages": 1}, r"frozen_stages \(= 1\) has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_named(arguments: dict, words: str, tmp_path: Path) -> None:
    config = read(tmp_path, **arguments)
    model_tree(config)
    assert any(re.search(words, problem) for problem in config.problems())


def test_every_array_has_a_name_here(tmp_path: Path) -> None:
    tree = model_tree(read(tmp_path, **TINY))["backbone"]
    del tree["name"]
    with torch.device("meta"):
        ours = {f"backbone.{name}": value for name, value in MViT(**tree).state_dict().items()}
    theirs = {
        re.sub(r"norms\.(scale\d)\.", r"\1_norm.", name).replace("backbone.", "backbone.bottom_up."): value
        for name, value in ours.items()
    }
    assert len(theirs) == len(ours)
    assert rename(theirs, NAMES) == (ours, [])
