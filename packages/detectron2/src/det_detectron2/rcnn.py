"""Detectron2's GeneralizedRCNN on ResNet and FPN: config to component tree, names of its arrays to ours."""

from __future__ import annotations

from typing import Any

from det_detectron2.config import Detectron2Config

NORMS = {"": "", "BN": "bn", "SyncBN": "sync_bn", "FrozenBN": "frozen_bn", "GN": "gn"}

# Detectron2's names, as regular expressions, and ours
NAMES = (
    (r"backbone\.bottom_up\.(stem\.conv1|res[2-5]\.\d+\.(?:conv[123]|shortcut))\.(.+)", r"backbone.\1.\2"),
    (r"backbone\.fpn_lateral(\d)\.(.+)", r"neck.lateral.p\1.\2"),
    (r"backbone\.fpn_output(\d)\.(.+)", r"neck.output.p\1.\2"),
    (r"proposal_generator\.rpn_head\.conv\.(weight|bias)", r"proposal_generator.conv.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(weight|bias)", r"proposal_generator.objectness.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(weight|bias)", r"proposal_generator.deltas.\1"),
    (r"roi_heads\.box_head\.fc(\d+)\.(weight|bias)", r"heads.box.trunk.{\1-1}.\2"),
    (r"roi_heads\.box_predictor\.cls_score\.(weight|bias)", r"heads.box.predictor.scores.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(weight|bias)", r"heads.box.predictor.deltas.\1"),
    (r"roi_heads\.mask_head\.mask_fcn(\d+)\.(.+)", r"heads.mask.trunk.{\1-1}.\2"),
    (r"roi_heads\.mask_head\.deconv\.(weight|bias)", r"heads.mask.predictor.upsample.\1"),
    (r"roi_heads\.mask_head\.predictor\.(weight|bias)", r"heads.mask.predictor.logits.\1"),
)
# Constants that follow from the config
DERIVED = (
    r"pixel_mean",
    r"pixel_std",
    r"proposal_generator\.anchor_generator\.cell_anchors\.\d+",
    r".+\.num_batches_tracked",
)


def model_tree(config: Detectron2Config) -> dict[str, Any]:
    """The `model` section of a detkit config."""
    config.expect("MODEL.META_ARCHITECTURE", "GeneralizedRCNN")
    config.expect("MODEL.LOAD_PROPOSALS", False)
    config.expect("MODEL.KEYPOINT_ON", False)
    config.unused(
        "MODEL.RETINANET",
        "MODEL.SEM_SEG_HEAD",
        "MODEL.PANOPTIC_FPN",
        "MODEL.ROI_KEYPOINT_HEAD",
        "MODEL.ROI_BOX_CASCADE_HEAD",
    )
    with_masks = config.take("MODEL.MASK_ON")
    heads = {"box": _box_head(config)}
    if with_masks:
        heads["mask"] = _mask_head(config)
    else:
        config.unused("MODEL.ROI_MASK_HEAD")
    return {
        "name": "rcnn",
        "backbone": _resnet(config),
        "neck": _fpn(config),
        "proposal_generator": _rpn(config),
        "heads": heads,
        "sampling": _sampling(config),
        "input": _input(config),
    }


def _input(config: Detectron2Config) -> dict[str, Any]:
    order = config.expect("INPUT.FORMAT", "BGR", "RGB")
    return {
        "channel_order": str(order).lower(),
        "mean": config.take("MODEL.PIXEL_MEAN"),
        "std": config.take("MODEL.PIXEL_STD"),
        "min_size": config.take("INPUT.MIN_SIZE_TEST"),
        "max_size": config.take("INPUT.MAX_SIZE_TEST"),
        "divisor": 32,
    }


def _resnet(config: Detectron2Config) -> dict[str, Any]:
    config.expect("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone")
    depth = config.expect("MODEL.RESNETS.DEPTH", 18, 34, 50, 101, 152)
    config.expect("MODEL.RESNETS.NUM_GROUPS", 1)
    config.expect("MODEL.RESNETS.WIDTH_PER_GROUP", 64)
    config.expect("MODEL.RESNETS.STEM_OUT_CHANNELS", 64)
    config.expect("MODEL.RESNETS.RES2_OUT_CHANNELS", 256 if depth >= 50 else 64)
    config.expect("MODEL.RESNETS.RES5_DILATION", 1)
    config.expect("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False] * 4)
    config.unused("MODEL.RESNETS.DEFORM_MODULATED", "MODEL.RESNETS.DEFORM_NUM_GROUPS")
    return {
        "name": "resnet",
        "depth": depth,
        "norm": NORMS.get(config.expect("MODEL.RESNETS.NORM", *NORMS), ""),
        "freeze_at": config.take("MODEL.BACKBONE.FREEZE_AT"),
        "stride_in_1x1": config.take("MODEL.RESNETS.STRIDE_IN_1X1"),
        "out_features": config.take("MODEL.RESNETS.OUT_FEATURES"),
    }


def _fpn(config: Detectron2Config) -> dict[str, Any]:
    config.expect("MODEL.FPN.FUSE_TYPE", "sum")
    return {
        "name": "fpn",
        "in_features": config.take("MODEL.FPN.IN_FEATURES"),
        "channels": config.take("MODEL.FPN.OUT_CHANNELS"),
        "norm": NORMS.get(config.expect("MODEL.FPN.NORM", *NORMS), ""),
    }


def _rpn(config: Detectron2Config) -> dict[str, Any]:
    config.expect("MODEL.PROPOSAL_GENERATOR.NAME", "RPN")
    config.expect("MODEL.RPN.HEAD_NAME", "StandardRPNHead")
    config.expect("MODEL.RPN.BOUNDARY_THRESH", -1)
    config.expect("MODEL.RPN.IOU_LABELS", [0, -1, 1])
    config.expect("MODEL.RPN.BBOX_REG_LOSS_TYPE", "smooth_l1")
    config.expect("MODEL.RPN.CONV_DIMS", [-1])
    config.expect("MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator")
    config.unused("MODEL.ANCHOR_GENERATOR.ANGLES")
    features = config.take("MODEL.RPN.IN_FEATURES")
    sizes = config.take("MODEL.ANCHOR_GENERATOR.SIZES")
    ratios = config.take("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS")
    if any(level != ratios[0] for level in ratios):
        raise ValueError(
            f"MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS differ between levels: {ratios}; this has no counterpart"
        )
    background_iou, foreground_iou = config.take("MODEL.RPN.IOU_THRESHOLDS")
    weight = config.take("MODEL.RPN.LOSS_WEIGHT")
    return {
        "name": "rpn",
        "in_features": features,
        "sizes": sizes * len(features) if len(sizes) == 1 else sizes,
        "aspect_ratios": ratios[0],
        "offset": config.take("MODEL.ANCHOR_GENERATOR.OFFSET"),
        "foreground_iou": foreground_iou,
        "background_iou": background_iou,
        "batch_size_per_image": config.take("MODEL.RPN.BATCH_SIZE_PER_IMAGE"),
        "foreground_fraction": config.take("MODEL.RPN.POSITIVE_FRACTION"),
        "pre_nms_train": config.take("MODEL.RPN.PRE_NMS_TOPK_TRAIN"),
        "pre_nms_test": config.take("MODEL.RPN.PRE_NMS_TOPK_TEST"),
        "post_nms_train": config.take("MODEL.RPN.POST_NMS_TOPK_TRAIN"),
        "post_nms_test": config.take("MODEL.RPN.POST_NMS_TOPK_TEST"),
        "nms_iou": config.take("MODEL.RPN.NMS_THRESH"),
        "min_size": config.take("MODEL.PROPOSAL_GENERATOR.MIN_SIZE"),
        "box_weights": config.take("MODEL.RPN.BBOX_REG_WEIGHTS"),
        "smooth_l1_beta": config.take("MODEL.RPN.SMOOTH_L1_BETA"),
        "objectness_weight": weight,
        "box_weight": weight * config.take("MODEL.RPN.BBOX_REG_LOSS_WEIGHT"),
    }


def _pooling(config: Detectron2Config, head: str, features: list[str]) -> dict[str, Any]:
    pooler = config.expect(f"{head}.POOLER_TYPE", "ROIAlignV2", "ROIAlign")
    return {
        "in_features": features,
        "pool_size": config.take(f"{head}.POOLER_RESOLUTION"),
        "sampling_ratio": config.take(f"{head}.POOLER_SAMPLING_RATIO"),
        "aligned": pooler == "ROIAlignV2",
    }


def _box_head(config: Detectron2Config) -> dict[str, Any]:
    head = "MODEL.ROI_BOX_HEAD"
    config.expect("MODEL.ROI_HEADS.NAME", "StandardROIHeads")
    config.expect(f"{head}.NAME", "FastRCNNConvFCHead")
    config.expect(f"{head}.NUM_CONV", 0)
    config.expect(f"{head}.NORM", "")
    config.expect(f"{head}.CLS_AGNOSTIC_BBOX_REG", False)
    config.expect(f"{head}.BBOX_REG_LOSS_TYPE", "smooth_l1")
    config.expect(f"{head}.TRAIN_ON_PRED_BOXES", False)
    config.expect(f"{head}.USE_SIGMOID_CE", False)
    config.expect(f"{head}.USE_FED_LOSS", False)
    config.unused(f"{head}.CONV_DIM", f"{head}.FED_LOSS_FREQ_WEIGHT_POWER", f"{head}.FED_LOSS_NUM_CLASSES")
    return {
        "name": "box",
        **_pooling(config, head, config.take("MODEL.ROI_HEADS.IN_FEATURES")),
        "num_classes": config.take("MODEL.ROI_HEADS.NUM_CLASSES"),
        "layers": config.take(f"{head}.NUM_FC"),
        "channels": config.take(f"{head}.FC_DIM"),
        "box_weights": config.take(f"{head}.BBOX_REG_WEIGHTS"),
        "smooth_l1_beta": config.take(f"{head}.SMOOTH_L1_BETA"),
        "box_weight": config.take(f"{head}.BBOX_REG_LOSS_WEIGHT"),
        "score_threshold": config.take("MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
        "nms_iou": config.take("MODEL.ROI_HEADS.NMS_THRESH_TEST"),
        "detections_per_image": config.take("TEST.DETECTIONS_PER_IMAGE"),
    }


def _mask_head(config: Detectron2Config) -> dict[str, Any]:
    head = "MODEL.ROI_MASK_HEAD"
    config.expect(f"{head}.NAME", "MaskRCNNConvUpsampleHead")
    config.expect(f"{head}.CLS_AGNOSTIC_MASK", False)
    return {
        "name": "mask",
        **_pooling(config, head, config.take("MODEL.ROI_HEADS.IN_FEATURES")),
        "num_classes": config.take("MODEL.ROI_HEADS.NUM_CLASSES"),
        "layers": config.take(f"{head}.NUM_CONV"),
        "channels": config.take(f"{head}.CONV_DIM"),
        "norm": NORMS.get(config.expect(f"{head}.NORM", *NORMS), ""),
    }


def _sampling(config: Detectron2Config) -> dict[str, Any]:
    config.expect("MODEL.ROI_HEADS.IOU_LABELS", [0, 1])
    thresholds = config.take("MODEL.ROI_HEADS.IOU_THRESHOLDS")
    return {
        "batch_size_per_image": config.take("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"),
        "foreground_fraction": config.take("MODEL.ROI_HEADS.POSITIVE_FRACTION"),
        "iou": thresholds[0],
        "append_targets": config.take("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT"),
    }
