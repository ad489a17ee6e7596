"""Detectron2's python configs with Swin Transformer and FPN."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from det_detectron2.architectures import ARCHITECTURES, renamed
from det_detectron2.config import Detectron2Config
from det_detectron2.lazy import LazyLoader
from detkit.config import build
from detkit.detector import Detector
from detkit.structures.categories import Categories

TINY = {"embed_dim": 16, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 2, 4], "drop_path_rate": 0.1}
SWIN_T = {
    "name": "swin",
    "freeze_at": 0,
    "embed_dim": 96,
    "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24],
    "window": 7,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "patch_norm": True,
    "absolute_positions": 0,
    "drop_path": 0.2,
    "checkpointing": False,
    "out_features": ["p0", "p1", "p2", "p3"],
}


def read(folder: Path, bottom_up: Mapping[str, Any], **arguments: Any) -> Detectron2Config:
    """The Mask R-CNN of the tests with a Swin Transformer, and its pyramid with changes."""
    tree = yaml.load((Path(__file__).parent / "lazy_mask_rcnn.yaml").read_text(), LazyLoader)
    tree["model"]["backbone"].update(
        bottom_up={"_target_": "detectron2.modeling.SwinTransformer", **bottom_up},
        in_features=["p0", "p1", "p2", "p3"],
        norm="LN",
        square_pad=1024,
    )
    tree["model"]["backbone"].update(arguments)
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return Detectron2Config.read(folder / "config.yaml")


def model_tree(config: Detectron2Config) -> dict[str, Any]:
    return ARCHITECTURES[config.take("MODEL.META_ARCHITECTURE")].tree(config)


def built(config: Detectron2Config) -> dict[str, Any]:
    tree = model_tree(config)
    assert config.problems() == []
    return tree


def test_without_arguments_it_is_detectron2s_default_swin_t(tmp_path: Path) -> None:
    tree = built(read(tmp_path, {}))
    assert tree["backbone"] == SWIN_T
    assert (tree["neck"]["in_features"], tree["neck"]["norm"]) == (["p0", "p1", "p2", "p3"], "ln")
    assert tree["input"]["square"] == 1024


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"window_size": 12, "mlp_ratio": 2.0}, {"window": 12, "mlp_ratio": 2.0}),
        ({"qkv_bias": False, "patch_norm": False}, {"qkv_bias": False, "patch_norm": False}),
        ({"ape": True}, {"absolute_positions": 56}),
        ({"ape": True, "pretrain_img_size": [384, 384]}, {"absolute_positions": 96}),
        ({"pretrain_img_size": 384, "patch_size": [4, 4], "in_chans": 3, "drop_rate": 0}, {}),
        ({"frozen_stages": 0}, {"freeze_at": 1}),  # the patches
        ({"frozen_stages": 1, "ape": True}, {"freeze_at": 1, "absolute_positions": 56}),
        ({"frozen_stages": 3}, {"freeze_at": 3}),  # and two stages
        ({"use_checkpoint": True}, {"checkpointing": True}),
        ({"norm_layer": "torch.nn.modules.normalization.LayerNorm"}, {}),
        ({"qk_scale": None}, {}),
    ],
)
def test_other_arguments_are_followed(changes: dict, expected: dict, tmp_path: Path) -> None:
    assert built(read(tmp_path, changes))["backbone"] == {**SWIN_T, **expected}


def test_stages_may_be_left_out_from_the_finest_on(tmp_path: Path) -> None:
    """As for RetinaNet and FCOS."""
    top = {"_target_": "detectron2.modeling.backbone.fpn.LastLevelP6P7", "in_feature": "p5"}
    top |= {"in_channels": 256, "out_channels": 256}
    features = ["p1", "p2", "p3"]
    tree = built(read(tmp_path, {"out_indices": [1, 2, 3]}, in_features=features, top_block=top))
    assert tree["backbone"]["out_features"] == tree["neck"]["in_features"] == features
    assert tree["neck"]["top"] == "p5"


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("patch_size", 2, "only 4 or [4, 4] has a counterpart"),
        ("in_chans", 4, "only 3 has a counterpart"),
        ("qk_scale", 0.1, "only None has a counterpart"),
        ("drop_rate", 0.1, "only 0.0 has a counterpart"),
        ("attn_drop_rate", 0.1, "only 0.0 has a counterpart"),
        ("out_indices", [0, 1, 2], "only a list with the last stage, 3, has a counterpart"),
        ("norm_layer", "torch.nn.BatchNorm2d", "only torch.nn.LayerNorm with some eps has a counterpart"),
        ("norm_layer", "functools.partial(torch.nn.LayerNorm, eps=1e-06)", "only one of 1e-05 has a counterpart"),
        ("token", True, "(= True) has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_named(argument: str, value: Any, words: str, tmp_path: Path) -> None:
    config = read(tmp_path, {argument: value})
    model_tree(config)
    (problem,) = config.problems()
    assert problem.startswith(f"model.backbone.bottom_up.{argument}")
    assert problem.endswith(words)


def test_patches_frozen_without_their_positions_have_no_counterpart(tmp_path: Path) -> None:
    config = read(tmp_path, {"ape": True, "frozen_stages": 0})
    assert "frozen_stages is 0; only -1, or 1 and more" in config.problems()[0]


@pytest.mark.parametrize("positions", [False, True])
def test_every_array_finds_its_place(positions: bool, tmp_path: Path) -> None:
    tree = built(read(tmp_path, {**TINY, "ape": positions}))
    model = build(tree, Detector, categories=Categories.numbered(7))
    ours = {name: value for name, value in model.state_dict().items() if name.startswith("backbone.")}
    theirs = {name.replace("backbone.", "backbone.bottom_up.", 1): value for name, value in ours.items()}
    for stage, block in ((0, 0), (1, 1)):
        index = f"backbone.bottom_up.layers.{stage}.blocks.{block}.attn.relative_position_index"
        theirs[index] = torch.zeros(49, 49, dtype=torch.int64)
    assert ("backbone.bottom_up.absolute_pos_embed" in theirs) == positions
    state, strangers = renamed(theirs, [ARCHITECTURES["GeneralizedRCNN"]])
    assert strangers == []
    assert state.keys() == ours.keys()
