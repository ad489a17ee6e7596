"""Detectron2's python configs with ViT and SimpleFeaturePyramid."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from det_detectron2.architectures import ARCHITECTURES, renamed
from det_detectron2.config import Detectron2Config
from det_detectron2.lazy import LazyLoader
from detkit.config import build
from detkit.detector import Detector
from detkit.structures.categories import Categories

PARTIAL = "functools.partial(<class 'torch.nn.modules.normalization.LayerNorm'>, eps=1e-06)"
BASE = {
    "img_size": 1024,
    "patch_size": 16,
    "embed_dim": 768,
    "depth": 12,
    "num_heads": 12,
    "drop_path_rate": 0.1,
    "window_size": 14,
    "mlp_ratio": 4,
    "qkv_bias": True,
    "norm_layer": PARTIAL,
    "window_block_indexes": [0, 1, 3, 4, 6, 7, 9, 10],
    "residual_block_indexes": [],
    "use_rel_pos": True,
    "out_feature": "last_feat",
}
TINY = {**BASE, "embed_dim": 16, "depth": 3, "num_heads": 2, "window_size": 2, "window_block_indexes": [0, 1]}
VIT_B = {
    "name": "vit",
    "embed_dim": 768,
    "depth": 12,
    "num_heads": 12,
    "patch": 16,
    "mlp_ratio": 4,
    "qkv_bias": True,
    "window": 14,
    "global_blocks": [2, 5, 8, 11],
    "residual_blocks": [],
    "absolute_positions": True,
    "relative_positions": True,
    "image_size": 1024,
    "pretrain_size": 224,
    "drop_path": 0.1,
    "norm_eps": 1e-6,
    "checkpointing": False,
}


def read(folder: Path, net: Mapping[str, Any], **arguments: Any) -> Detectron2Config:
    """The Mask R-CNN of the tests with a ViT, and its pyramid with changes."""
    tree = yaml.load((Path(__file__).parent / "lazy_mask_rcnn.yaml").read_text(), LazyLoader)
    tree["model"]["backbone"] = {
        "_target_": "detectron2.modeling.SimpleFeaturePyramid",
        "net": {"_target_": "detectron2.modeling.ViT", **net},
        "in_feature": "${.net.out_feature}",
        "out_channels": 32,
        "scale_factors": [4.0, 2.0, 1.0, 0.5],
        "top_block": {"_target_": "detectron2.modeling.backbone.fpn.LastLevelMaxPool"},
        "norm": "LN",
        "square_pad": 1024,
        **arguments,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return Detectron2Config.read(folder / "config.yaml")


def model_tree(config: Detectron2Config) -> dict[str, Any]:
    return ARCHITECTURES[config.take("MODEL.META_ARCHITECTURE")].tree(config)


def built(config: Detectron2Config) -> dict[str, Any]:
    tree = model_tree(config)
    assert config.problems() == []
    return tree


def test_the_arguments_are_detectron2s(tmp_path: Path) -> None:
    tree = built(read(tmp_path, BASE))
    assert tree["backbone"] == VIT_B
    assert tree["neck"] == {
        "name": "simple-fpn",
        "in_feature": "last_feat",
        "channels": 32,
        "scales": [4.0, 2.0, 1.0, 0.5],
        "norm": "ln",
        "top": "pool",
    }
    assert (tree["input"]["square"], tree["input"]["divisor"]) == (1024, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"norm_layer": "torch.nn.modules.normalization.LayerNorm"}, {"norm_eps": 1e-5}),
        ({"use_act_checkpoint": True, "pretrain_img_size": 384}, {"checkpointing": True, "pretrain_size": 384}),
        ({"residual_block_indexes": [2, 5]}, {"residual_blocks": [2, 5]}),
        ({"window_block_indexes": []}, {"window": 0, "global_blocks": None}),
        ({"window_size": 0}, {"window": 0, "global_blocks": None}),
        ({"use_abs_pos": False, "use_rel_pos": False}, {"absolute_positions": False, "relative_positions": False}),
        ({"rel_pos_zero_init": False, "pretrain_use_cls_token": False, "in_chans": 3}, {}),
    ],
)
def test_other_arguments_are_followed(changes: dict, expected: dict, tmp_path: Path) -> None:
    assert built(read(tmp_path, {**BASE, **changes}))["backbone"] == {**VIT_B, **expected}


def test_without_arguments_it_is_detectron2s_default(tmp_path: Path) -> None:
    expected = {"window": 0, "global_blocks": None, "relative_positions": False, "drop_path": 0.0, "norm_eps": 1e-5}
    assert built(read(tmp_path, {}, in_feature="last_feat"))["backbone"] == {**VIT_B, **expected}


def test_a_pyramid_may_end_with_its_coarsest_level(tmp_path: Path) -> None:
    tree = built(read(tmp_path, TINY, top_block=None, norm="", square_pad=0))
    assert (tree["neck"]["top"], tree["neck"]["norm"], tree["input"]["square"]) == ("", "", 0)


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("norm_layer", "torch.nn.BatchNorm2d", "only torch.nn.LayerNorm with some eps has a counterpart"),
        ("act_layer", "torch.nn.modules.activation.ReLU", "has a counterpart"),
        ("in_chans", 4, "only 3 has a counterpart"),
        ("out_feature", "x", "only 'last_feat' has a counterpart"),
        ("token", True, "(= True) has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_named(argument: str, value: Any, words: str, tmp_path: Path) -> None:
    config = read(tmp_path, {**TINY, argument: value})
    model_tree(config)
    (problem,) = config.problems()
    assert problem.startswith(f"model.backbone.net.{argument}")
    assert problem.endswith(words)


def detectron2s(name: str) -> str:
    """What Detectron2 calls an array of ours of the backbone or the pyramid."""
    name = re.sub(r"^backbone\.", "backbone.net.", name)
    name = re.sub(r"(residual)\.conv(\d)\.norm\.", r"\1.norm\2.", name)
    return re.sub(r"^neck\.levels\.p(\d)\.", r"backbone.simfp_\1.", name)


@pytest.mark.parametrize("class_token", [True, False])
def test_every_array_finds_its_place(class_token: bool, tmp_path: Path) -> None:
    tree = built(read(tmp_path, {**TINY, "residual_block_indexes": [1], "img_size": 64}))
    model = build(tree, Detector, categories=Categories.numbered(7))
    ours: dict[str, Tensor] = {
        name: torch.randn_like(value)
        for name, value in model.state_dict().items()
        if name.startswith(("backbone.", "neck."))
    }
    theirs = {detectron2s(name): value for name, value in ours.items()}
    names = (
        "backbone.net.blocks.2.attn.rel_pos_h",
        "backbone.net.blocks.1.residual.norm3.weight",
        "backbone.simfp_2.1.bias",
        "backbone.simfp_2.4.norm.weight",
        "backbone.simfp_5.2.weight",
    )
    assert set(names) <= theirs.keys()
    positions = theirs["backbone.net.pos_embed"].flatten(1, 2)
    token = [torch.randn(1, 1, 16)] if class_token else []
    theirs["backbone.net.pos_embed"] = torch.cat([*token, positions], dim=1)
    state, strangers = renamed(theirs, [ARCHITECTURES["GeneralizedRCNN"]])
    assert strangers == []
    assert state.keys() == ours.keys()
    assert all(torch.equal(state[name], value) for name, value in ours.items())
