"""The arrays in Detectron's (Caffe2) checkpoints under detkit's names, background last."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from detkit.foreign import rename
from detkit.foreign_resnet import caffe2_name, constant_statistics

_LEAF = r"(w|b|gn_s|gn_b)"
_LEAVES = {"w": "weight", "b": "bias", "gn_s": "norm.weight", "gn_b": "norm.bias"}

# What is shared by all levels of a pyramid is named after the finest of them
_NAMES = (
    (rf"conv(\d)_(\d)_{_LEAF}", r"backbone.conv\1.{\2-1}.\3"),
    (rf"fpn_inner_res(\d)_\d+_sum(?:_lateral)?_{_LEAF}", r"neck.lateral.p\1.\2"),
    (rf"fpn_res(\d)_\d+_sum_{_LEAF}", r"neck.output.p\1.\2"),
    (rf"fpn_([67])_{_LEAF}", r"neck.top.p\1.\2"),
    (rf"conv_rpn(?:_fpn\d)?_{_LEAF}", r"proposal_generator.trunk.0.\1"),
    (rf"rpn_cls_logits(?:_fpn\d)?_{_LEAF}", r"proposal_generator.objectness.\1"),
    (rf"rpn_bbox_pred(?:_fpn\d)?_{_LEAF}", r"proposal_generator.deltas.\1"),
    (rf"head_conv(\d)_{_LEAF}", r"heads.box.trunk.convs.{\1-1}.\2"),
    (rf"fc([67])_{_LEAF}", r"heads.box.trunk.linears.{\1-6}.\2"),
    (rf"cls_score_{_LEAF}", r"heads.box.predictor.scores.\1"),
    (rf"bbox_pred_{_LEAF}", r"heads.box.predictor.deltas.\1"),
    (rf"_\[mask\]_fcn(\d)_{_LEAF}", r"heads.mask.trunk.{\1-1}.\2"),
    (rf"conv5_mask_{_LEAF}", r"heads.mask.predictor.upsample.\1"),
    (rf"mask_fcn_logits_{_LEAF}", r"heads.mask.predictor.logits.\1"),
    (rf"conv_fcn(\d+)_{_LEAF}", r"heads.keypoint.trunk.{\1-1}.\2"),
    (rf"kps_score_lowres_{_LEAF}", r"heads.keypoint.upsample.\1"),
    (rf"conv_dim_reduce_{_LEAF}", r"heads.box.reduce.\1"),
    (rf"conv_cls_{_LEAF}", r"heads.box.maps.scores.\1"),
    (rf"conv_bbox_pred_{_LEAF}", r"heads.box.maps.deltas.\1"),
    (rf"retnet_cls_conv_n(\d)_fpn\d_{_LEAF}", r"head.class_tower.{\1*2}.\2"),
    (rf"retnet_bbox_conv_n(\d)_fpn\d_{_LEAF}", r"head.box_tower.{\1*2}.\2"),
    (rf"retnet_cls_pred_fpn\d_{_LEAF}", r"head.logits.\1"),
    (rf"retnet_bbox_pred_fpn\d_{_LEAF}", r"head.deltas.\1"),
)
# What training left behind, and bilinear interpolation as a convolution
_DERIVED = (r".+_momentum", r"lr", r"kps_score_[wb]")


def our_arrays(
    blobs: Mapping[str, Tensor], num_classes: int, *, shared_res5: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """Arrays under detkit's names, and the blobs that nothing is known of.

    Args:
        num_classes: without background, which is the first class in Detectron.
        shared_res5: whether res5 works on regions, for all heads ("C4" models).
    """
    body, others = {}, {}
    for blob, value in blobs.items():
        name = caffe2_name(blob)
        if name is None:
            others[blob] = value
            continue
        name = f"roi_trunk.{name}" if shared_res5 and name.startswith("res5.") else f"backbone.{name}"
        body[name] = value
        if blob.endswith("_bn_s"):
            prefix = name.removesuffix("weight")
            body |= {prefix + leaf: constant for leaf, constant in constant_statistics(value).items()}
    renamed, strangers = rename(others, _NAMES, _DERIVED)
    state = {
        re.sub(rf"\.{_LEAF}$", lambda leaf: f".{_LEAVES[leaf[1]]}", name): value for name, value in renamed.items()
    }
    return body | {name: _background_last(name, value, num_classes) for name, value in state.items()}, strangers


def _background_last(name: str, value: Tensor, num_classes: int) -> Tensor:
    """Rows of scores with those of background moved from the beginning to the end; rows of boxes and masks without
    them."""
    layer = name.rpartition(".")[0]
    if layer in ("heads.box.predictor.scores", "heads.box.maps.scores"):
        return value.roll(-(len(value) // (num_classes + 1)), 0)
    if layer in ("heads.box.predictor.deltas", "heads.box.maps.deltas"):
        agnostic = len(value) % (num_classes + 1) or len(value) == 8
        return value[len(value) // (2 if agnostic else num_classes + 1) :]
    if layer == "heads.mask.predictor.logits" and len(value) == num_classes + 1:
        return value[1:]
    return value
