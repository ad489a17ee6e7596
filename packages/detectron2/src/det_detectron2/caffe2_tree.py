"""Detectron's (Caffe2) configs as detkit models.

Detectron's boxes go from the number of the first pixel to that of the last; (x0, y0, x1 + 1, y1 + 1) are the same boxes
from edge to edge. For these its formulae of widths, overlaps and deltas, with their "+ 1", are detkit's. What is left
of its conventions are arguments: anchors with rounded sides, around the middle of a map's cells; regions that are
pooled up to the number of their last pixel, without the shift of half a pixel (`inclusive`, not `aligned`); keypoints
that are numbers of pixels.

Where answers still differ, it is by little. Detectron refines boxes in pixels of the original image, detkit in those of
the resized one, so that right and lower edges differ by a fraction of a pixel. Detectron turns boxes outside of the
image into boxes of one pixel, where detkit drops them; it enlarges the heat maps of keypoints as if zeros were around
them; its RetinaNet has no score threshold on the coarsest map; and its VGG drops what is left of a side that does not
divide by 16, where detkit fills up the image.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from det_detectron2.caffe2_backbones import backbone, blocks, body_of, levels, neck
from det_detectron2.caffe2_config import DEFAULTS, DetectronConfig

_TYPES = ("generalized_rcnn", "rpn", "retinanet", "rfcn")
_ROI_ALIGN = {"aligned": False, "inclusive": True}
_RPN_BETA = 1 / 9
_RPN_KEYS = [f"{part}.{key}" for part in ("TEST", "TRAIN") for key in DEFAULTS[part] if key.startswith("RPN_")]


def model_tree(config: DetectronConfig) -> dict[str, Any]:
    """The `model` section of a detkit config, with `num_classes` and `num_keypoints`."""
    config.expect("BBOX_XFORM_CLIP", config.default("BBOX_XFORM_CLIP"))
    config.expect("TEST.SOFT_NMS.ENABLED", False)
    config.expect("TEST.BBOX_VOTE.ENABLED", False)
    config.expect("TEST.BBOX_REG", True)
    config.unused("TEST.SOFT_NMS", "TEST.BBOX_VOTE")
    kind = config.expect("MODEL.TYPE", *_TYPES)
    has_pyramid = body_of(config).has_pyramid
    if not has_pyramid:
        config.unused("FPN")
    common: dict[str, Any] = {
        "backbone": backbone(config),
        "neck": neck(config) if has_pyramid else None,
        "input": _input(config, has_pyramid),
    }
    if kind == "retinanet":
        return {**_retinanet(config), **common}
    config.expect("RETINANET.RETINANET_ON", False)
    config.unused("RETINANET")
    if kind == "rpn" or config.take("MODEL.RPN_ONLY"):
        config.unused("FAST_RCNN", "KRCNN", "MRCNN", "RFCN", "MODEL", "TEST", "TRAIN")
        rpn = _rpn(config, has_pyramid)
        return {"name": "proposal-network", **common, "proposal_generator": rpn, **_classes(config)}
    generator = _rpn(config, has_pyramid) if config.take("MODEL.FASTER_RCNN") else None
    if generator is None:
        config.unused("RPN", "FPN", *_RPN_KEYS)
    heads = _rfcn(config) if kind == "rfcn" else _heads(config, has_pyramid)
    return {"name": "rcnn", **common, "proposal_generator": generator, **heads, "sampling": _sampling(config)}


def anchors(stride: int, sizes: list[float], ratios: list[float]) -> list[list[float]]:
    """Detectron's anchors around the middle of a cell of this stride: sides are rounded for a box as large as the cell,
    then enlarged; all sizes of the first ratio come first."""
    boxes = []
    for ratio in ratios:
        width = float(np.round(np.sqrt(stride * stride / ratio)))
        height = float(np.round(width * ratio))
        for size in sizes:
            w, h = width * size / stride / 2, height * size / stride / 2
            boxes.append([-w, -h, w, h])
    return boxes


def _classes(config: DetectronConfig) -> dict[str, int]:
    return {"num_classes": config.take("MODEL.NUM_CLASSES") - 1}  # Detectron counts background


def _input(config: DetectronConfig, has_pyramid: bool) -> dict[str, Any]:
    """Images are resized as OpenCV does, and padded for a pyramid alone."""
    return {
        "channel_order": "bgr",
        "mean": np.ravel(config.take("PIXEL_MEANS")).tolist(),
        "std": [1.0, 1.0, 1.0],
        "min_size": config.take("TEST.SCALE"),
        "max_size": config.take("TEST.MAX_SIZE"),
        "divisor": config.take("FPN.COARSEST_STRIDE") if has_pyramid else 1,
        "antialias": False,
    }


def _rpn(config: DetectronConfig, has_pyramid: bool) -> dict[str, Any]:
    if has_pyramid:
        config.expect("FPN.MULTILEVEL_RPN", True)
        config.unused("RPN")
        low, high = config.take("FPN.RPN_MIN_LEVEL"), config.take("FPN.RPN_MAX_LEVEL")
        start, ratios = config.take("FPN.RPN_ANCHOR_START_SIZE"), config.take("FPN.RPN_ASPECT_RATIOS")
        features = [f"p{level}" for level in range(low, high + 1)]
        boxes = [anchors(2**level, [start * 2 ** (level - low)], ratios) for level in range(low, high + 1)]
    else:
        body = body_of(config)
        features = [body.feature]
        stride = 32 // config.take("RESNETS.RES5_DILATION") if body.feature == "res5" else 16
        config.expect("RPN.STRIDE", stride)
        boxes = [anchors(stride, config.take("RPN.SIZES"), config.take("RPN.ASPECT_RATIOS"))]
    config.expect("TEST.RPN_MIN_SIZE", 0)
    nms_iou = config.take("TEST.RPN_NMS_THRESH")
    config.expect("TRAIN.RPN_NMS_THRESH", nms_iou)
    boundary = config.take("TRAIN.RPN_STRADDLE_THRESH")
    return {
        "name": "rpn",
        "in_features": features,
        "anchor_boxes": boxes,
        "offset": 0.5,
        "foreground_iou": config.take("TRAIN.RPN_POSITIVE_OVERLAP"),
        "background_iou": config.take("TRAIN.RPN_NEGATIVE_OVERLAP"),
        "boundary": boundary if boundary >= 0 else None,
        "batch_size_per_image": config.take("TRAIN.RPN_BATCH_SIZE_PER_IM"),
        "foreground_fraction": config.take("TRAIN.RPN_FG_FRACTION"),
        "pre_nms_train": config.take("TRAIN.RPN_PRE_NMS_TOP_N"),
        "pre_nms_test": config.take("TEST.RPN_PRE_NMS_TOP_N"),
        "post_nms_train": config.take("TRAIN.RPN_POST_NMS_TOP_N"),
        "post_nms_test": config.take("TEST.RPN_POST_NMS_TOP_N"),
        "nms_iou": nms_iou,
        "smooth_l1_beta": _RPN_BETA,
    }


def _heads(config: DetectronConfig, has_pyramid: bool) -> dict[str, Any]:
    config.unused("RFCN")
    if has_pyramid:
        config.expect("FPN.MULTILEVEL_ROIS", True)
        config.expect("FPN.ROI_CANONICAL_SCALE", 224)
        config.expect("FPN.ROI_CANONICAL_LEVEL", 4)
        low, high = config.take("FPN.ROI_MIN_LEVEL"), config.take("FPN.ROI_MAX_LEVEL")
        features = [f"p{level}" for level in range(low, high + 1)]
    else:
        features = [body_of(config).feature]
    tree: dict[str, Any] = {}
    is_resnet = body_of(config).name == "resnet"
    if is_resnet and config.take("FAST_RCNN.ROI_BOX_HEAD").endswith("add_ResNet_roi_conv5_head"):
        pooling = _pooling(config, "FAST_RCNN", features)
        size = pooling.pop("pool_size")
        tree["roi_pooling"] = {**pooling, "size": size}
        tree["roi_trunk"] = {"name": "resnet-res5", **blocks(config)}
        config.unused("FAST_RCNN")
        heads: dict[str, Any] = {"box": {"name": "box", "layers": 0, **_predictor(config)}}
    else:
        heads = {"box": {**_pooling(config, "FAST_RCNN", features), **_box_trunk(config), **_predictor(config)}}
    if config.take("MODEL.MASK_ON"):
        heads["mask"] = _mask(config, features, shared=bool(tree))
    else:
        config.unused("MRCNN")
    if config.take("MODEL.KEYPOINTS_ON"):
        heads["keypoint"] = _keypoint(config, features)
    else:
        config.unused("KRCNN")
    return {**tree, "heads": heads}


def _pooling(config: DetectronConfig, section: str, features: list[str]) -> dict[str, Any]:
    config.expect(f"{section}.ROI_XFORM_METHOD", "RoIAlign")
    return {
        "in_features": features,
        "pool_size": config.take(f"{section}.ROI_XFORM_RESOLUTION"),
        "sampling_ratio": config.take(f"{section}.ROI_XFORM_SAMPLING_RATIO"),
        **_ROI_ALIGN,
    }


def _function(config: DetectronConfig, key: str, *names: str) -> str:
    """The last part of a function's name, which is to be one of `names`; the modules have had several names."""
    name: str = config.take(key).rsplit(".", 1)[-1]
    if name not in names:
        config.expect(key, *names)
    return name


def _box_trunk(config: DetectronConfig) -> dict[str, Any]:
    name = _function(
        config,
        "FAST_RCNN.ROI_BOX_HEAD",
        "add_roi_2mlp_head",
        "add_roi_Xconv1fc_head",
        "add_roi_Xconv1fc_gn_head",
        "add_VGG16_roi_fc_head",
    )
    if name == "add_VGG16_roi_fc_head":
        config.unused("FAST_RCNN")
        return {"name": "box", "pool_size": 7, "layers": 2, "channels": 4096}
    channels = config.take("FAST_RCNN.MLP_HEAD_DIM")
    if name == "add_roi_2mlp_head":
        config.unused("FAST_RCNN.CONV_HEAD_DIM", "FAST_RCNN.NUM_STACKED_CONVS")
        return {"name": "box", "layers": 2, "channels": channels}
    return {
        "name": "box",
        "convs": config.take("FAST_RCNN.NUM_STACKED_CONVS"),
        "conv_channels": config.take("FAST_RCNN.CONV_HEAD_DIM"),
        "norm": "gn" if name.endswith("gn_head") else "",
        "layers": 1,
        "channels": channels,
    }


def _predictor(config: DetectronConfig) -> dict[str, Any]:
    return {
        **_classes(config),
        "class_agnostic": config.take("MODEL.CLS_AGNOSTIC_BBOX_REG"),
        "box_weights": config.take("MODEL.BBOX_REG_WEIGHTS"),
        "smooth_l1_beta": 1.0,
        "score_threshold": config.take("TEST.SCORE_THRESH"),
        "nms_iou": config.take("TEST.NMS"),
        "detections_per_image": config.take("TEST.DETECTIONS_PER_IM"),
    }


def _mask(config: DetectronConfig, features: list[str], *, shared: bool) -> dict[str, Any]:
    layers = {
        "mask_rcnn_fcn_head_v0upshare": 0,
        "mask_rcnn_fcn_head_v1up": 2,
        "mask_rcnn_fcn_head_v1up4convs": 4,
        "mask_rcnn_fcn_head_v1up4convs_gn": 4,
    }
    wanted = [name for name, count in layers.items() if shared == (count == 0)]
    name = _function(config, "MRCNN.ROI_MASK_HEAD", *wanted)
    config.expect("MRCNN.DILATION", 1)
    config.expect("MRCNN.USE_FC_OUTPUT", False)
    config.expect("MRCNN.UPSAMPLE_RATIO", 1)
    pooling = _pooling(config, "MRCNN", features)
    config.expect("MRCNN.RESOLUTION", pooling["pool_size"] if shared else 2 * pooling["pool_size"])
    if shared:  # what the box head has pooled
        for key in ("ROI_XFORM_RESOLUTION", "ROI_XFORM_SAMPLING_RATIO"):
            config.expect(f"MRCNN.{key}", config.take(f"FAST_RCNN.{key}"))
    return {
        "name": "mask",
        **_classes(config),
        **({} if shared else pooling),
        "layers": layers.get(name, 0),
        "channels": config.take("MRCNN.DIM_REDUCED"),
        "norm": "gn" if name.endswith("_gn") else "",
        "class_agnostic": not config.take("MRCNN.CLS_SPECIFIC_MASK"),
        "weight": config.take("MRCNN.WEIGHT_LOSS_MASK"),
        "threshold": config.take("MRCNN.THRESH_BINARIZE"),
    }


def _keypoint(config: DetectronConfig, features: list[str]) -> dict[str, Any]:
    _function(config, "KRCNN.ROI_KEYPOINTS_HEAD", "add_roi_pose_head_v1convX")
    for key, value in (
        ("CONV_HEAD_KERNEL", 3),
        ("DECONV_KERNEL", 4),
        ("INFERENCE_MIN_SIZE", 0),
        ("KEYPOINT_CONFIDENCE", "bbox"),
        ("NMS_OKS", False),
        ("UP_SCALE", 2),
        ("USE_DECONV", False),
        ("USE_DECONV_OUTPUT", True),
    ):
        config.expect(f"KRCNN.{key}", value)
    config.unused("KRCNN.DECONV_DIM", "KRCNN.DILATION")
    pooling = _pooling(config, "KRCNN", features)
    config.expect("KRCNN.HEATMAP_SIZE", 4 * pooling["pool_size"])
    keypoints = config.take("KRCNN.NUM_KEYPOINTS")
    by_visible = config.take("KRCNN.NORMALIZE_BY_VISIBLE_KEYPOINTS")
    foreground = config.take("TRAIN.BATCH_SIZE_PER_IM") * config.take("TRAIN.FG_FRACTION")
    return {
        "name": "keypoint",
        **_classes(config),
        "num_keypoints": keypoints,
        **pooling,
        "channels": [config.take("KRCNN.CONV_HEAD_DIM")] * config.take("KRCNN.NUM_STACKED_CONVS"),
        "pixel_numbers": True,
        "keypoints_per_image": None if by_visible else keypoints * foreground,
        "weight": config.take("KRCNN.LOSS_WEIGHT"),
    }


def _rfcn(config: DetectronConfig) -> dict[str, Any]:
    config.expect("MODEL.MASK_ON", False)
    config.expect("MODEL.KEYPOINTS_ON", False)
    config.unused("FAST_RCNN", "KRCNN", "MRCNN")
    head = {"name": "rfcn", "channels": 1024, "grid": config.take("RFCN.PS_GRID_SIZE"), **_predictor(config)}
    return {"heads": {"box": head}}


def _retinanet(config: DetectronConfig) -> dict[str, Any]:
    config.expect("RETINANET.RETINANET_ON", True)
    for key in ("CLASS_SPECIFIC_BBOX", "SHARE_CLS_BBOX_TOWER", "SOFTMAX"):
        config.expect(f"RETINANET.{key}", False)
    config.expect("RETINANET.BBOX_REG_WEIGHT", 1.0)
    scale, octaves = config.take("RETINANET.ANCHOR_SCALE"), config.take("RETINANET.SCALES_PER_OCTAVE")
    ratios = config.take("RETINANET.ASPECT_RATIOS")
    low, high = levels(config)
    boxes = [
        [
            box
            for octave in range(octaves)
            for box in anchors(stride, [stride * 2 ** (octave / octaves) * scale], ratios)
        ]
        for stride in (2**level for level in range(low, high + 1))
    ]
    tree = {
        "name": "retinanet",
        **_classes(config),
        "in_features": [f"p{level}" for level in range(low, high + 1)],
        "anchor_boxes": boxes,
        "offset": 0.5,
        "layers": config.take("RETINANET.NUM_CONVS"),
        "channels": config.take("FPN.DIM"),
        "prior": config.take("RETINANET.PRIOR_PROB"),
        "foreground_iou": config.take("RETINANET.POSITIVE_OVERLAP"),
        "background_iou": config.take("RETINANET.NEGATIVE_OVERLAP"),
        "smooth_l1_beta": config.take("RETINANET.BBOX_REG_BETA"),
        "focal_alpha": config.take("RETINANET.LOSS_ALPHA"),
        "focal_gamma": config.take("RETINANET.LOSS_GAMMA"),
        "score_threshold": config.take("RETINANET.INFERENCE_TH"),
        "candidates": config.take("RETINANET.PRE_NMS_TOP_N"),
        "nms_iou": config.take("TEST.NMS"),
        "clip_before_nms": True,
        "detections_per_image": config.take("TEST.DETECTIONS_PER_IM"),
    }
    config.unused("FAST_RCNN", "KRCNN", "MRCNN", "RFCN", "RPN", "MODEL", "TEST", "TRAIN", "FPN")
    return tree


def _sampling(config: DetectronConfig) -> dict[str, Any]:
    return {
        "batch_size_per_image": config.take("TRAIN.BATCH_SIZE_PER_IM"),
        "foreground_fraction": config.take("TRAIN.FG_FRACTION"),
        "iou": config.take("TRAIN.FG_THRESH"),
    }
