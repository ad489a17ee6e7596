"""Detectron2's python configs: the arrays that its modules have, by their own rules, are those of the models here."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from det_detectron2.architectures import ARCHITECTURES, renamed
from det_detectron2.config import Detectron2Config
from det_detectron2.conversion import taken_out
from det_detectron2.lazy import resolved
from det_detectron2.lazy_targets import TARGETS, as_keys
from detkit.config import build
from detkit.detector import Detector
from detkit.structures.categories import Categories

# L and H are S and B with more of the same: COCO's cascades have them
OTHERS = re.compile(r"LVIS/.+_[lh]_|COCO/(?:mask_rcnn_vitdet|.+mvitv2)_[lh]_|.+_in21k_3x")
PATHS = [
    path
    for path in yaml.safe_load((Path(__file__).parent / "lazy_configs.yaml").read_text())["configs"]
    if not OTHERS.search(path)
]
Call = Mapping[str, Any]
Shapes = dict[str, tuple[int, ...]]
STATISTICS = ("running_mean", "running_var")


def model_arrays(model: Call) -> Shapes:
    """Names and shapes of the arrays of Detectron2's module for a `model` section without references."""
    body, levels = backbone(model["backbone"])
    shapes = under("backbone", body)
    if "head" in model:
        return shapes | under("head", dense_head(model["head"]))
    shapes |= under("proposal_generator.rpn_head", rpn_head(model["proposal_generator"]["head"]))
    shapes |= under("roi_heads", roi_heads(model["roi_heads"]))
    if "sem_seg_head" in model:
        shapes |= under("sem_seg_head", semantic_head(model["sem_seg_head"], levels))
    return shapes


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def layer(name: str, *weight: int, bias: int | None = None) -> Shapes:
    """A layer with a bias, of as many values as its weight has rows by default."""
    return {f"{name}.weight": weight, f"{name}.bias": (bias or weight[0],)}


def norm(name: str, kind: str, channels: int) -> Shapes:
    leaves = {"": (), "GN": ("weight", "bias"), "LN": ("weight", "bias")}.get(kind, ("weight", "bias", *STATISTICS))
    shapes: Shapes = {f"{name}.{leaf}": (channels,) for leaf in leaves}
    batches = {f"{name}.num_batches_tracked": ()} if len(leaves) == 4 and kind != "FrozenBN" else {}
    return shapes | batches


def conv(name: str, kind: str, *weight: int) -> Shapes:
    """A convolution with a norm, or without one with a bias."""
    return {f"{name}.weight": weight, **norm(f"{name}.norm", kind, weight[0])} if kind else layer(name, *weight)


def backbone(call: Call) -> tuple[Shapes, list[int]]:
    """With the channels of its maps."""
    name = call["_target_"].rpartition(".")[2]
    if name == "SimpleFeaturePyramid":
        return simple_pyramid(call), [call["out_channels"]] * 4
    if name != "FPN":
        return {"ResNet": resnet, "RegNet": regnet, "SwinTransformer": swin, "MViT": mvit}[name](call)
    body, channels = backbone(call["bottom_up"])
    shapes, width = under("bottom_up", body), call["out_channels"]
    for level, inputs in zip(
        range(6 - len(call["in_features"]), 6), channels[-len(call["in_features"]) :], strict=True
    ):
        shapes |= conv(f"fpn_lateral{level}", call.get("norm", ""), width, inputs, 1, 1)
        shapes |= conv(f"fpn_output{level}", call.get("norm", ""), width, width, 3, 3)
    top = call["top_block"]
    if "in_channels" in top:
        shapes |= layer("top_block.p6", top["out_channels"], top["in_channels"], 3, 3)
        shapes |= layer("top_block.p7", top["out_channels"], top["out_channels"], 3, 3)
    return shapes, [width] * 4


def resnet(call: Call) -> tuple[Shapes, list[int]]:
    kind, depth = call["stages"]["norm"], call["stages"]["depth"]
    shapes, inputs = conv("stem.conv1", call["stem"]["norm"], 64, 3, 7, 7), 64
    channels, blocks = [256, 512, 1024, 2048], (3, 4, {50: 6, 101: 23}[depth], 3)
    for stage, outputs in enumerate(channels):
        if stage == 3 and call["out_features"] == ["res4"]:
            break
        shapes |= under(f"res{stage + 2}", bottlenecks(kind, blocks[stage], inputs, outputs))
        inputs = outputs
    return shapes, channels


def bottlenecks(kind: str, blocks: int, inputs: int, outputs: int) -> Shapes:
    shapes: Shapes = {}
    for number in range(blocks):
        width = outputs // 4
        if number == 0:
            shapes |= conv(f"{number}.shortcut", kind, outputs, inputs, 1, 1)
        shapes |= conv(f"{number}.conv1", kind, width, inputs, 1, 1)
        shapes |= conv(f"{number}.conv2", kind, width, width, 3, 3)
        shapes |= conv(f"{number}.conv3", kind, outputs, width, 1, 1)
        inputs = outputs
    return shapes


def regnet(call: Call) -> tuple[Shapes, list[int]]:
    kind, inputs, group = call["norm"], call["stem_width"], call["group_width"]
    shapes: Shapes = {"stem.conv.weight": (inputs, 3, 3, 3), **norm("stem.bn", kind, inputs)}
    w_0, w_m = call["w_0"], call["w_m"]
    powers = [round(math.log((w_0 + call["w_a"] * block) / w_0) / math.log(w_m)) for block in range(call["depth"])]
    stages = sorted(Counter(round(w_0 * w_m**power / 8) * 8 for power in powers).items())
    channels = [round(width / group) * group for width, _ in stages]
    for stage, ((_, blocks), width) in enumerate(zip(stages, channels, strict=True), 1):
        for block in range(1, blocks + 1):
            name = f"s{stage}.b{block}"
            if block == 1:
                shapes |= {f"{name}.proj.weight": (width, inputs, 1, 1), **norm(f"{name}.bn", kind, width)}
            shapes |= {f"{name}.f.a.weight": (width, inputs, 1, 1), **norm(f"{name}.f.a_bn", kind, width)}
            shapes |= {f"{name}.f.b.weight": (width, group, 3, 3), **norm(f"{name}.f.b_bn", kind, width)}
            if squeezed := round(inputs * call.get("se_ratio", 0)):
                shapes |= layer(f"{name}.f.se.f_ex.0", squeezed, width, 1, 1)
                shapes |= layer(f"{name}.f.se.f_ex.2", width, squeezed, 1, 1)
            shapes |= {f"{name}.f.c.weight": (width, width, 1, 1), **norm(f"{name}.f.c_bn", kind, width)}
            inputs = width
    return shapes, channels


def vit(call: Call) -> Shapes:
    width, side = call["embed_dim"], call["img_size"] // call["patch_size"]
    shapes: Shapes = {"pos_embed": (1, (224 // call["patch_size"]) ** 2 + 1, width)}
    shapes |= layer("patch_embed.proj", width, 3, call["patch_size"], call["patch_size"])
    for number in range(call["depth"]):
        name = f"blocks.{number}"
        span = call["window_size"] if number in call["window_block_indexes"] else side
        shapes |= layer(f"{name}.norm1", width) | layer(f"{name}.norm2", width)
        shapes |= attention(f"{name}.attn", width, width, width // call["num_heads"], 2 * span - 1)
        shapes |= layer(f"{name}.mlp.fc1", 4 * width, width) | layer(f"{name}.mlp.fc2", width, 4 * width)
    return shapes


def attention(name: str, inputs: int, outputs: int, head: int, positions: int) -> Shapes:
    shapes = layer(f"{name}.qkv", 3 * outputs, inputs) | layer(f"{name}.proj", outputs, outputs)
    return shapes | {f"{name}.rel_pos_{axis}": (positions, head) for axis in "hw"}


def simple_pyramid(call: Call) -> Shapes:
    shapes, width, kind = under("net", vit(call["net"])), call["net"]["embed_dim"], call["norm"]
    for level, steps in ((2, 2), (3, 1), (4, 0), (5, 0)):
        name, inputs, place = f"simfp_{level}", width, int(level == 5)  # after a pooling
        for step in range(steps):
            shapes |= layer(f"{name}.{place}", inputs, inputs // 2, 2, 2, bias=inputs // 2)
            inputs //= 2
            if step + 1 < steps:
                shapes |= norm(f"{name}.{place + 1}", kind, inputs)
            place += 3 if step + 1 < steps else 1  # with an activation
        shapes |= conv(f"{name}.{place}", kind, call["out_channels"], inputs, 1, 1)
        shapes |= conv(f"{name}.{place + 1}", kind, call["out_channels"], call["out_channels"], 3, 3)
    return shapes


def swin(call: Call) -> tuple[Shapes, list[int]]:
    shapes = layer("patch_embed.proj", call["embed_dim"], 3, 4, 4) | layer("patch_embed.norm", call["embed_dim"])
    channels = [call["embed_dim"] << stage for stage in range(4)]
    for stage, (width, heads) in enumerate(zip(channels, call["num_heads"], strict=True)):
        for block in range(call["depths"][stage]):
            name = f"layers.{stage}.blocks.{block}"
            shapes |= layer(f"{name}.norm1", width) | layer(f"{name}.norm2", width)
            shapes |= layer(f"{name}.attn.qkv", 3 * width, width) | layer(f"{name}.attn.proj", width, width)
            shapes[f"{name}.attn.relative_position_bias_table"] = (13 * 13, heads)
            shapes[f"{name}.attn.relative_position_index"] = (49, 49)
            shapes |= layer(f"{name}.mlp.fc1", 4 * width, width) | layer(f"{name}.mlp.fc2", width, 4 * width)
        shapes |= layer(f"norm{stage}", width)
        if stage < 3:
            shapes |= layer(f"layers.{stage}.downsample.norm", 4 * width)
            shapes[f"layers.{stage}.downsample.reduction.weight"] = (2 * width, 4 * width)
    return shapes, channels


def mvit(call: Call) -> tuple[Shapes, list[int]]:
    shapes = layer("patch_embed.proj", call["embed_dim"], 3, 7, 7)
    channels = [call["embed_dim"] << stage for stage in range(4)]
    inputs, side, head = channels[0], 56, call["embed_dim"] // call["num_heads"]
    number = 0
    for stage, ((before, last), width) in enumerate(
        zip(pairwise([-1, *call["last_block_indexes"]]), channels, strict=True)
    ):
        for number in range(before + 1, last + 1):
            name, first = f"blocks.{number}", stage > 0 and number == before + 1
            pooled = (4, 2, 1, 1)[stage] * (2 if number == last and stage in (1, 2) else 1)
            shapes |= layer(f"{name}.norm1", inputs) | layer(f"{name}.norm2", width)
            positions = 2 * max(side // (2 if first else 1), side // pooled) - 1
            shapes |= attention(f"{name}.attn", inputs, width, head, positions)
            for each in "qkv":
                shapes[f"{name}.attn.pool_{each}.weight"] = (head, 1, 3, 3)
                shapes |= layer(f"{name}.attn.norm_{each}", head)
            shapes |= layer(f"{name}.mlp.fc1", 4 * width, width) | layer(f"{name}.mlp.fc2", width, 4 * width)
            if inputs != width:
                shapes |= layer(f"{name}.proj", width, inputs)
            inputs, side = width, side // 2 if first else side
        shapes |= layer(f"scale{stage + 2}_norm", width)
    return shapes, channels


def rpn_head(call: Call) -> Shapes:
    width, convs = call["in_channels"], call.get("conv_dims", [-1])
    names = ["conv"] if len(convs) == 1 else [f"conv.conv{number}" for number in range(len(convs))]
    shapes: Shapes = {}
    for name in names:
        shapes |= layer(name, width, width, 3, 3)
    count = call["num_anchors"]
    return shapes | layer("objectness_logits", count, width, 1, 1) | layer("anchor_deltas", 4 * count, width, 1, 1)


def roi_heads(call: Call) -> Shapes:
    shapes: Shapes = {}
    if "res5" in call:
        shapes |= under("res5", bottlenecks(call["res5"]["norm"], 3, 1024, 2048))
        shapes |= under("box_predictor", predictor(call["box_predictor"]))
    elif "box_heads" in call:
        for stage, (head, outputs) in enumerate(zip(call["box_heads"], call["box_predictors"], strict=True)):
            shapes |= under(f"box_head.{stage}", box_head(head)) | under(f"box_predictor.{stage}", predictor(outputs))
    else:
        shapes |= under("box_head", box_head(call["box_head"])) | under(
            "box_predictor", predictor(call["box_predictor"])
        )
    if mask := call.get("mask_head"):
        *convs, last = mask["conv_dims"]
        inputs = mask["input_shape"]["channels"]
        for number, width in enumerate(convs, 1):
            shapes |= conv(f"mask_head.mask_fcn{number}", mask.get("conv_norm", ""), width, inputs, 3, 3)
            inputs = width
        shapes |= layer("mask_head.deconv", inputs, last, 2, 2, bias=last)
        shapes |= layer("mask_head.predictor", mask["num_classes"], last, 1, 1)
    if keypoint := call.get("keypoint_head"):
        inputs, count = keypoint["input_shape"]["channels"], keypoint["num_keypoints"]
        for number, width in enumerate(keypoint["conv_dims"], 1):
            shapes |= layer(f"keypoint_head.conv_fcn{number}", width, inputs, 3, 3)
            inputs = width
        shapes |= layer("keypoint_head.score_lowres", inputs, count, 4, 4, bias=count)
    return shapes


def box_head(call: Call) -> Shapes:
    inputs, shapes = call["input_shape"]["channels"], {}
    for number, width in enumerate(call["conv_dims"], 1):
        shapes |= conv(f"conv{number}", call.get("conv_norm", ""), width, inputs, 3, 3)
        inputs = width
    inputs *= call["input_shape"]["height"] * call["input_shape"]["width"]
    for number, width in enumerate(call["fc_dims"], 1):
        shapes |= layer(f"fc{number}", width, inputs)
        inputs = width
    return shapes


def predictor(call: Call) -> Shapes:
    inputs, classes = call["input_shape"]["channels"], call["num_classes"]
    shapes = layer("cls_score", classes + 1, inputs)
    shapes |= layer("bbox_pred", 4 if call.get("cls_agnostic_bbox_reg") else 4 * classes, inputs)
    if call.get("use_fed_loss"):
        shapes["fed_loss_cls_weights"] = (classes,)
    return shapes


def dense_head(call: Call) -> Shapes:
    kind, shapes = call.get("norm", ""), {}
    for tower in ("cls_subnet", "bbox_subnet"):
        for number, width in enumerate(call["conv_dims"]):
            place = number * (3 if kind else 2)
            shapes |= layer(f"{tower}.{place}", width, width, 3, 3)
            if kind in ("BN", "SyncBN"):  # statistics of each level
                shapes |= layer(f"{tower}.{place + 1}", width)
                for level in range(len(call["input_shape"])):
                    shapes |= {f"{tower}.{place + 1}.{level}.{leaf}": (width,) for leaf in STATISTICS}
                    shapes[f"{tower}.{place + 1}.{level}.num_batches_tracked"] = ()
            elif kind:
                shapes |= norm(f"{tower}.{place + 1}", kind, width)
    count = call.get("num_anchors", 1)
    shapes |= layer("cls_score", count * call["num_classes"], width, 3, 3)
    shapes |= layer("bbox_pred", 4 * count, width, 3, 3)
    return shapes if "num_anchors" in call else shapes | layer("ctrness", 1, width, 3, 3)


def semantic_head(call: Call, levels: list[int]) -> Shapes:
    shapes, width = layer("predictor", call["num_classes"], call["conv_dims"], 1, 1), call["conv_dims"]
    for level, inputs in zip((2, 3, 4, 5), levels, strict=True):
        for number in range(max(1, level - 2)):  # between them the map is made larger
            shapes |= conv(f"p{level}.{2 * number}", call["norm"], width, width if number else inputs, 3, 3)
    return shapes


@pytest.mark.parametrize("path", PATHS)
def test_all_arrays_have_their_place(path: str, python_config: Callable[[str], dict[str, Any]]) -> None:
    dump = resolved(python_config(path))
    config = Detectron2Config(*as_keys(dump, TARGETS))
    architecture = ARCHITECTURES[config.take("MODEL.META_ARCHITECTURE")]
    tree = architecture.tree(config)
    assert config.problems() == []
    classes, stuff = taken_out(tree, "num_classes"), taken_out(tree, "num_semantic_classes")
    with torch.device("meta"):
        model = build(
            tree,
            Detector,
            categories=Categories.numbered(*classes),
            semantic_categories=Categories.numbered(max(stuff), "class of pixels") if stuff else None,
        )
        arrays = {name: torch.empty(shape) for name, shape in model_arrays(dump["model"]).items()}
    state, strangers = renamed(arrays, [architecture])
    assert strangers == []
    theirs = {name: value.shape for name, value in state.items()}
    assert theirs == {
        name: value.shape
        for name, value in model.state_dict().items()
        if name not in architecture.initial and not name.endswith(".num_batches_tracked")
    }
