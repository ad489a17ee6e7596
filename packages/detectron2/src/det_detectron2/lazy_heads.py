"""What Detectron2's heads in python configs mean in keys of its YAML configs: heads on regions, and of pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from det_detectron2.lazy import Call, Keys
from det_detectron2.lazy_parts import box_weights, loss_weights, stride

BOX = "MODEL.ROI_BOX_HEAD"
MASK = "MODEL.ROI_MASK_HEAD"
KEYPOINT = "MODEL.ROI_KEYPOINT_HEAD"


def standard_heads(call: Call) -> Keys:
    features = call.take("box_in_features")
    keys = _roi_heads(call, call.child("proposal_matcher", "Matcher"), features)
    predictor = call.child("box_predictor", "FastRCNNOutputLayers")
    return {
        **keys,
        **_pooler(call, "box_pooler", BOX, features),
        f"{BOX}.TRAIN_ON_PRED_BOXES": call.take("train_on_pred_boxes", False),
        **_box_head(call.child("box_head", "FastRCNNConvFCHead")),
        **_predictor(predictor, keys),
        f"{BOX}.BBOX_REG_WEIGHTS": box_weights(predictor),
        **_mask(call, keys),
        **_keypoint(call, keys),
    }


def cascade_heads(call: Call) -> Keys:
    features = call.take("box_in_features")
    matchers = call.children("proposal_matchers", "Matcher")
    heads = call.children("box_heads", "FastRCNNConvFCHead")
    predictors = call.children("box_predictors", "FastRCNNOutputLayers")
    first, *others = matchers
    keys = _roi_heads(call, first, features)
    thresholds = [keys["MODEL.ROI_HEADS.IOU_THRESHOLDS"]]
    for matcher in others:
        matcher.expect("labels", [0, 1])
        matcher.expect("allow_low_quality_matches", False)
        thresholds.append(matcher.take("thresholds"))
    weights = [box_weights(predictor) for predictor in predictors]
    for threshold in thresholds:
        if len(threshold) > 1:
            call.refuse("proposal_matchers", thresholds, "one threshold each")
    return {
        **keys,
        **_pooler(call, "box_pooler", BOX, features),
        f"{BOX}.TRAIN_ON_PRED_BOXES": call.take("train_on_pred_boxes", False),
        **call.same("box_heads", [_box_head(head) for head in heads], {}),
        **call.same("box_predictors", [_predictor(predictor, keys) for predictor in predictors], {}),
        f"{BOX}.BBOX_REG_WEIGHTS": weights[0],
        "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": weights,
        "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": [threshold[0] for threshold in thresholds],
        **_mask(call, keys),
        **_keypoint(call, keys),
    }


def res5_heads(call: Call) -> Keys:
    """The "C4" models: the last stage of the ResNet runs on regions."""
    features = call.take("in_features")
    keys = _roi_heads(call, call.child("proposal_matcher", "Matcher"), features)
    stage = call.child("res5", "ResNet.make_stage")
    block = str(stage.take("block_class")).rpartition(".")[2]
    if block != "BottleneckBlock":
        stage.refuse("block_class", block, "BottleneckBlock")
    stage.expect("num_blocks", 3)
    stage.expect("stride_per_block", [2, 1, 1])
    stage.expect("num_groups", 1)
    stage.follows("in_channels", "bottleneck_channels", "out_channels", "norm", "stride_in_1x1")  # as in the backbone
    predictor = call.child("box_predictor", "FastRCNNOutputLayers")
    return {
        **keys,
        **_pooler(call, "pooler", BOX, features),
        **_predictor(predictor, keys),
        f"{BOX}.BBOX_REG_WEIGHTS": box_weights(predictor),
        **_mask_head(call, keys),
        "MODEL.KEYPOINT_ON": False,
    }


def _roi_heads(call: Call, matcher: Call, features: Sequence[str]) -> Keys:
    matcher.expect("allow_low_quality_matches", False)
    return {
        "MODEL.ROI_HEADS.NAME": call.name,
        "MODEL.ROI_HEADS.IN_FEATURES": features,
        "MODEL.ROI_HEADS.NUM_CLASSES": call.take("num_classes"),
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": call.take("batch_size_per_image"),
        "MODEL.ROI_HEADS.POSITIVE_FRACTION": call.take("positive_fraction"),
        "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": call.take("proposal_append_gt", True),
        "MODEL.ROI_HEADS.IOU_THRESHOLDS": matcher.take("thresholds"),
        "MODEL.ROI_HEADS.IOU_LABELS": matcher.take("labels"),
    }


def _pooler(call: Call, argument: str, section: str, features: Sequence[str]) -> Keys:
    pooler = call.child(argument, "ROIPooler")
    scales = pooler.take("scales")
    wanted = [1 / (stride(name) or math.nan) for name in features]
    if len(scales) != len(wanted) or any(abs(a - b) > 1e-6 for a, b in zip(scales, wanted, strict=True)):
        pooler.refuse("scales", scales, repr(wanted))
    pooler.expect("canonical_box_size", 224)
    pooler.expect("canonical_level", 4)
    size = pooler.take("output_size")
    return {
        f"{section}.POOLER_RESOLUTION": size if isinstance(size, int) else pooler.same("output_size", size, 0),
        f"{section}.POOLER_SAMPLING_RATIO": pooler.take("sampling_ratio"),
        f"{section}.POOLER_TYPE": pooler.take("pooler_type"),
    }


def _box_head(call: Call) -> Keys:
    call.follows("input_shape")
    convs, linears = call.take("conv_dims"), call.take("fc_dims")
    return {
        f"{BOX}.NAME": call.name,
        f"{BOX}.NUM_CONV": len(convs),
        f"{BOX}.CONV_DIM": call.same("conv_dims", convs, 256),
        f"{BOX}.NORM": call.norm("conv_norm", ""),
        f"{BOX}.NUM_FC": len(linears),
        f"{BOX}.FC_DIM": call.same("fc_dims", linears, 1024),
    }


def _predictor(call: Call, heads: Keys) -> Keys:
    """All of a predictor's arguments but the weights of its parametrisation."""
    call.follows("input_shape")
    call.expect("num_classes", heads["MODEL.ROI_HEADS.NUM_CLASSES"])
    classes, boxes = loss_weights(call, "loss_cls", "loss_box_reg")
    if classes != 1:
        call.refuse("loss_weight", call.take("loss_weight"), "a loss_cls of 1.0")
    call.follows("get_fed_loss_cls_weights")  # how often each class is seen in training, from the data
    return {
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": call.take("test_score_thresh", 0.0),
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": call.take("test_nms_thresh", 0.5),
        "TEST.DETECTIONS_PER_IMAGE": call.take("test_topk_per_image", 100),
        f"{BOX}.CLS_AGNOSTIC_BBOX_REG": call.take("cls_agnostic_bbox_reg", False),
        f"{BOX}.SMOOTH_L1_BETA": call.take("smooth_l1_beta", 0.0),
        f"{BOX}.BBOX_REG_LOSS_TYPE": call.take("box_reg_loss_type", "smooth_l1"),
        f"{BOX}.BBOX_REG_LOSS_WEIGHT": boxes,
        f"{BOX}.USE_SIGMOID_CE": call.take("use_sigmoid_ce", False),
        f"{BOX}.USE_FED_LOSS": call.take("use_fed_loss", False),
        f"{BOX}.FED_LOSS_NUM_CLASSES": call.take("fed_loss_num_classes", 50),
        f"{BOX}.FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
    }


def _mask(call: Call, heads: Keys) -> Keys:
    features = call.take("mask_in_features", None)
    if features is None:
        call.follows("mask_pooler", "mask_head")
        return {"MODEL.MASK_ON": False}
    _same_features(call, "mask_in_features", features, heads)
    return {**_pooler(call, "mask_pooler", MASK, features), **_mask_head(call, heads)}


def _mask_head(call: Call, heads: Keys) -> Keys:
    if call.take("mask_head", None) is None:
        return {"MODEL.MASK_ON": False}
    head = call.child("mask_head", "MaskRCNNConvUpsampleHead")
    head.follows("input_shape", "vis_period")
    head.expect("loss_weight", 1.0)
    convs = head.take("conv_dims")  # that of the transposed convolution is the last
    classes = head.expect("num_classes", heads["MODEL.ROI_HEADS.NUM_CLASSES"], 1)
    return {
        "MODEL.MASK_ON": True,
        f"{MASK}.NAME": head.name,
        f"{MASK}.NUM_CONV": len(convs) - 1,
        f"{MASK}.CONV_DIM": head.same("conv_dims", convs, 256),
        f"{MASK}.NORM": head.norm("conv_norm", ""),
        f"{MASK}.CLS_AGNOSTIC_MASK": classes != heads["MODEL.ROI_HEADS.NUM_CLASSES"],
    }


def _keypoint(call: Call, heads: Keys) -> Keys:
    features = call.take("keypoint_in_features", None)
    if features is None:
        call.follows("keypoint_pooler", "keypoint_head")
        return {"MODEL.KEYPOINT_ON": False}
    _same_features(call, "keypoint_in_features", features, heads)
    head = call.child("keypoint_head", "KRCNNConvDeconvUpsampleHead")
    head.follows("input_shape")
    count = head.take("num_keypoints")
    # The alternative to counting the visible ones: all that a full batch of foreground would have
    full = count * heads["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"] * heads["MODEL.ROI_HEADS.POSITIVE_FRACTION"]
    normalizer = head.take("loss_normalizer", 1.0)
    if normalizer not in ("visible", full):
        head.refuse("loss_normalizer", normalizer, f"'visible' or {full}")
    return {
        "MODEL.KEYPOINT_ON": True,
        **_pooler(call, "keypoint_pooler", KEYPOINT, features),
        f"{KEYPOINT}.NAME": head.name,
        f"{KEYPOINT}.NUM_KEYPOINTS": count,
        f"{KEYPOINT}.CONV_DIMS": head.take("conv_dims"),
        f"{KEYPOINT}.LOSS_WEIGHT": head.take("loss_weight", 1.0),
        f"{KEYPOINT}.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": normalizer == "visible",
        f"{KEYPOINT}.MIN_KEYPOINTS_PER_IMAGE": 1,
    }


def _same_features(call: Call, argument: str, features: Any, heads: Keys) -> None:
    wanted = heads["MODEL.ROI_HEADS.IN_FEATURES"]
    if features != wanted:
        call.refuse(argument, features, repr(wanted))


def semantic_head(call: Call) -> Keys:
    head = "MODEL.SEM_SEG_HEAD"
    shapes: Mapping[str, Mapping[str, Any]] = call.take("input_shape")
    features = sorted(shapes, key=lambda name: shapes[name].get("stride") or stride(name) or 0)
    return {
        f"{head}.NAME": call.name,
        f"{head}.IN_FEATURES": features,
        f"{head}.NUM_CLASSES": call.take("num_classes"),
        f"{head}.CONVS_DIM": call.take("conv_dims"),
        f"{head}.COMMON_STRIDE": call.take("common_stride"),
        f"{head}.LOSS_WEIGHT": call.take("loss_weight", 1.0),
        f"{head}.NORM": call.norm("norm", ""),
        f"{head}.IGNORE_VALUE": call.take("ignore_value", -1),
    }
