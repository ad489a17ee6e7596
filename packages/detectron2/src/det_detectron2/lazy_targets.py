"""What the targets of Detectron2's python configs mean in keys of its YAML configs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from det_detectron2 import lazy_heads, mvit, regnet, swin, vit
from det_detectron2.lazy import Call, Keys, Reader
from det_detectron2.lazy_parts import anchors, box_weights, loss_weights

# What a config says of training, data and the machine; Detectron2 dumps the constants that its configs import, too
CANNOT_MATTER = ("constants", "lr_multiplier", "optimizer", "train")

TOP_BLOCKS = {"LastLevelMaxPool": "{}_fpn", "res5": "retinanet_{}_fpn", "p5": "p67_{}_fpn"}
"""What makes the levels above the pyramid, or the map that it makes them of -> how the builder of such a backbone is
named."""


def as_keys(tree: Mapping[str, Any], targets: Mapping[str, Callable[[Call], Keys]]) -> tuple[Keys, list[str]]:
    """A whole config, its references resolved, as keys of a YAML config; and what of it cannot be converted.

    Raises:
        ValueError: a target that is not in the table, or lacks an argument.
    """
    reader = Reader(targets)
    keys = reader.keys("model", tree["model"])
    keys |= _data(reader, tree.get("dataloader") or {}, keys["INPUT.FORMAT"])
    strangers = sorted(set(tree) - {"model", "dataloader", *CANNOT_MATTER})
    return keys, reader.problems() + [f"{name} (= {tree[name]!r}) has no counterpart" for name in strangers]


def _data(reader: Reader, loader: Mapping[str, Any], order: str | None) -> Keys:
    """How images are prepared, and what the classes are. Without a loader images keep their size, as for a model that
    is handed tensors."""
    mapper = _at(loader, "test", "mapper") or {}
    given = mapper.get("image_format")
    if given and order and given != order:
        reader.found.append(f"model.input_format is {order!r} but dataloader.test.mapper.image_format is {given!r}")
    keys: Keys = {
        "DATASETS.TRAIN": [],
        "INPUT.FORMAT": given or order or "BGR",
        "INPUT.MIN_SIZE_TEST": 0,
        "INPUT.MAX_SIZE_TEST": 1333,
    }
    names = _at(loader, "train", "dataset", "names")
    if names:
        keys["DATASETS.TRAIN"] = [names] if isinstance(names, str) else names
    path = "dataloader.test.mapper.augmentations"
    for position, entry in enumerate(mapper.get("augmentations") or []):
        resize = reader.call(f"{path}[{position}]", entry, ("ResizeShortestEdge",))
        edges = resize.take("short_edge_length")
        resize.follows("sample_style", "interp")
        keys["INPUT.MIN_SIZE_TEST"] = edges if isinstance(edges, int) else resize.same("short_edge_length", edges, 0)
        keys["INPUT.MAX_SIZE_TEST"] = resize.take("max_size", sys.maxsize)
    return keys


def _at(tree: Any, *names: str) -> Any:
    for name in names:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _model(call: Call) -> Keys:
    """What all architectures have."""
    call.follows("vis_period")
    return {
        "MODEL.META_ARCHITECTURE": call.name,
        **call.keys("backbone"),
        "MODEL.PIXEL_MEAN": call.take("pixel_mean"),
        "MODEL.PIXEL_STD": call.take("pixel_std"),
        "INPUT.FORMAT": call.take("input_format", None),
    }


def generalized_rcnn(call: Call) -> Keys:
    return {**_model(call), **call.keys("proposal_generator"), **call.keys("roi_heads")}


def panoptic_fpn(call: Call) -> Keys:
    combine = "MODEL.PANOPTIC_FPN.COMBINE"
    return {
        **generalized_rcnn(call),
        **call.keys("sem_seg_head"),
        "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT": 1.0,
        f"{combine}.ENABLED": True,
        f"{combine}.OVERLAP_THRESH": call.take("combine_overlap_thresh", 0.5),
        f"{combine}.STUFF_AREA_LIMIT": call.take("combine_stuff_area_thresh", 4096),
        f"{combine}.INSTANCES_CONFIDENCE_THRESH": call.take("combine_instances_score_thresh", 0.5),
    }


def _dense(call: Call, section: str, head: Call, keys: Keys, thresholds: tuple[float, float]) -> Keys:
    """What RetinaNet and FCOS share; `thresholds` are the defaults of score and overlap."""
    classes = call.take("num_classes")
    head.expect("num_classes", classes)
    head.follows("input_shape")
    convs = head.take("conv_dims")
    if any(width != keys["MODEL.FPN.OUT_CHANNELS"] for width in convs):
        head.refuse("conv_dims", convs, f"{keys['MODEL.FPN.OUT_CHANNELS']}, the width of the pyramid,")
    score, overlap = thresholds
    return {
        **keys,
        f"{section}.NUM_CLASSES": classes,
        f"{section}.IN_FEATURES": call.take("head_in_features", None),
        f"{section}.NUM_CONVS": len(convs),
        f"{section}.PRIOR_PROB": head.take("prior_prob", 0.01),
        f"{section}.FOCAL_LOSS_ALPHA": call.take("focal_loss_alpha", 0.25),
        f"{section}.FOCAL_LOSS_GAMMA": call.take("focal_loss_gamma", 2.0),
        f"{section}.SCORE_THRESH_TEST": call.take("test_score_thresh", score),
        f"{section}.TOPK_CANDIDATES_TEST": call.take("test_topk_candidates", 1000),
        f"{section}.NMS_THRESH_TEST": call.take("test_nms_thresh", overlap),
        "TEST.DETECTIONS_PER_IMAGE": call.take("max_detections_per_image", 100),
    }


def retinanet(call: Call) -> Keys:
    head = call.child("head", "RetinaNetHead")
    head.follows("num_anchors")
    keys = _dense(call, "MODEL.RETINANET", head, _model(call), (0.05, 0.5))
    matcher = call.child("anchor_matcher", "Matcher")
    matcher.expect("allow_low_quality_matches", True)
    return {
        **keys,
        **anchors(call.child("anchor_generator", "DefaultAnchorGenerator"), keys["MODEL.RETINANET.IN_FEATURES"]),
        "MODEL.RETINANET.NORM": head.norm("norm", ""),
        "MODEL.RETINANET.IOU_THRESHOLDS": matcher.take("thresholds"),
        "MODEL.RETINANET.IOU_LABELS": matcher.take("labels"),
        "MODEL.RETINANET.BBOX_REG_WEIGHTS": box_weights(call),
        "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": call.take("box_reg_loss_type", "smooth_l1"),
        "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": call.take("smooth_l1_beta", 0.0),
    }


def fcos(call: Call) -> Keys:
    head = call.child("head", "FCOSHead")
    if call.take("box2box_transform", None) is not None:
        call.child("box2box_transform", "Box2BoxTransformLinear").expect("normalize_by_size", True)
    return {
        **_dense(call, "MODEL.FCOS", head, _model(call), (0.2, 0.6)),
        "MODEL.FCOS.HEAD_NORM": head.norm("norm", ""),
        "MODEL.FCOS.CENTER_SAMPLING_RADIUS": call.take("center_sampling_radius", 1.5),
    }


def fpn(call: Call) -> Keys:
    keys = call.keys("bottom_up")
    top = call.child("top_block", "LastLevelMaxPool", "LastLevelP6P7")
    top.follows("in_channels", "out_channels")
    source = top.expect("in_feature", "res5", "p5") if top.name == "LastLevelP6P7" else top.name
    kind = keys["MODEL.BACKBONE.NAME"].removeprefix("build_").removesuffix("_backbone")
    return {
        **keys,
        "MODEL.BACKBONE.NAME": f"build_{TOP_BLOCKS.get(source, '{}_fpn').format(kind)}_backbone",
        "MODEL.FPN.IN_FEATURES": call.take("in_features"),
        "MODEL.FPN.OUT_CHANNELS": call.take("out_channels"),
        "MODEL.FPN.NORM": call.norm("norm", ""),
        "MODEL.FPN.FUSE_TYPE": call.take("fuse_type", "sum"),
        "INPUT.SQUARE": call.take("square_pad", 0),
    }


def resnet(call: Call) -> Keys:
    stem = call.child("stem", "BasicStem")
    stem.expect("in_channels", 3)
    stages = call.child("stages", "ResNet.make_default_stages")
    call.expect("num_classes", None)
    depth, norm = stages.take("depth"), stages.norm("norm", "BN")
    if stem.norm("norm", "BN") != norm:
        stem.refuse("norm", stem.norm("norm", "BN"), f"{norm!r}, as in the stages,")
    stages.expect("dilation", 1)
    groups = stages.take("num_groups", 1)
    return {
        "MODEL.BACKBONE.NAME": "build_resnet_backbone",
        "MODEL.BACKBONE.FREEZE_AT": call.take("freeze_at", 0),
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.NORM": norm,
        "MODEL.RESNETS.STRIDE_IN_1X1": stages.take("stride_in_1x1", False),
        "MODEL.RESNETS.STEM_OUT_CHANNELS": stem.expect("out_channels", 64),
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64 if depth < 50 else 256,
        "MODEL.RESNETS.NUM_GROUPS": groups,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 64 // groups,
        "MODEL.RESNETS.RES5_DILATION": 1,
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False] * 4,
        "MODEL.RESNETS.OUT_FEATURES": call.take("out_features", None) or ["res5"],
    }


def rpn(call: Call) -> Keys:
    head = call.child("head", "StandardRPNHead")
    head.follows("in_channels", "num_anchors")
    head.expect("box_dim", 4)
    matcher = call.child("anchor_matcher", "Matcher")
    matcher.expect("allow_low_quality_matches", True)
    features = call.take("in_features")
    weights = loss_weights(call, "loss_rpn_cls", "loss_rpn_loc")
    (pre_train, pre_test), (post_train, post_test) = call.take("pre_nms_topk"), call.take("post_nms_topk")
    return {
        "MODEL.LOAD_PROPOSALS": False,
        "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
        "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": call.take("min_box_size", 0.0),
        **anchors(call.child("anchor_generator", "DefaultAnchorGenerator"), features),
        "MODEL.RPN.HEAD_NAME": head.name,
        "MODEL.RPN.CONV_DIMS": head.take("conv_dims", [-1]),
        "MODEL.RPN.IN_FEATURES": features,
        "MODEL.RPN.IOU_THRESHOLDS": matcher.take("thresholds"),
        "MODEL.RPN.IOU_LABELS": matcher.take("labels"),
        "MODEL.RPN.BOUNDARY_THRESH": call.take("anchor_boundary_thresh", -1.0),
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE": call.take("batch_size_per_image"),
        "MODEL.RPN.POSITIVE_FRACTION": call.take("positive_fraction"),
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": pre_train,
        "MODEL.RPN.PRE_NMS_TOPK_TEST": pre_test,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": post_train,
        "MODEL.RPN.POST_NMS_TOPK_TEST": post_test,
        "MODEL.RPN.NMS_THRESH": call.take("nms_thresh", 0.7),
        "MODEL.RPN.BBOX_REG_WEIGHTS": box_weights(call),
        "MODEL.RPN.BBOX_REG_LOSS_TYPE": call.take("box_reg_loss_type", "smooth_l1"),
        "MODEL.RPN.SMOOTH_L1_BETA": call.take("smooth_l1_beta", 0.0),
        "MODEL.RPN.LOSS_WEIGHT": weights[0],
        "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": weights[1],
    }


TARGETS: Mapping[str, Callable[[Call], Keys]] = {
    "CascadeROIHeads": lazy_heads.cascade_heads,
    "FCOS": fcos,
    "FPN": fpn,
    "GeneralizedRCNN": generalized_rcnn,
    "MViT": mvit.target,
    "PanopticFPN": panoptic_fpn,
    "RPN": rpn,
    "RegNet": regnet.target,
    "Res5ROIHeads": lazy_heads.res5_heads,
    "ResNet": resnet,
    "RetinaNet": retinanet,
    "SemSegFPNHead": lazy_heads.semantic_head,
    "SimpleFeaturePyramid": vit.simple_pyramid_target,
    "StandardROIHeads": lazy_heads.standard_heads,
    "SwinTransformer": swin.target,
    "ViT": vit.target,
}
"""Short names of targets -> their meaning."""
