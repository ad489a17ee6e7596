"""Detectron2's ROI heads: config to components, names of their arrays to ours."""

from __future__ import annotations

from typing import Any

from det_detectron2.backbones import NORMS, res5
from det_detectron2.config import Detectron2Config

NAMES = (
    (r"roi_heads\.box_head\.fc(\d+)\.(weight|bias)", r"heads.box.trunk.{\1-1}.\2"),
    (r"roi_heads\.box_predictor\.cls_score\.(weight|bias)", r"heads.box.predictor.scores.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(weight|bias)", r"heads.box.predictor.deltas.\1"),
    (r"roi_heads\.mask_head\.mask_fcn(\d+)\.(.+)", r"heads.mask.trunk.{\1-1}.\2"),
    (r"roi_heads\.mask_head\.deconv\.(weight|bias)", r"heads.mask.predictor.upsample.\1"),
    (r"roi_heads\.mask_head\.predictor\.(weight|bias)", r"heads.mask.predictor.logits.\1"),
)


def roi_heads(config: Detectron2Config) -> dict[str, Any]:
    """`heads` and the `sampling` of their training."""
    config.expect("MODEL.KEYPOINT_ON", False)
    config.unused("MODEL.ROI_KEYPOINT_HEAD", "MODEL.ROI_BOX_CASCADE_HEAD")
    features = config.take("MODEL.ROI_HEADS.IN_FEATURES")
    if config.expect("MODEL.ROI_HEADS.NAME", "StandardROIHeads", "Res5ROIHeads") == "Res5ROIHeads":
        return {**_res5_heads(config, features), "sampling": _sampling(config)}
    heads = {"box": {**_box_head(config), **_pooling(config, "MODEL.ROI_BOX_HEAD", features)}}
    if config.take("MODEL.MASK_ON"):
        heads["mask"] = {**_mask_head(config), **_pooling(config, "MODEL.ROI_MASK_HEAD", features)}
    else:
        config.unused("MODEL.ROI_MASK_HEAD")
    return {"heads": heads, "sampling": _sampling(config)}


def _res5_heads(config: Detectron2Config, features: list[str]) -> dict[str, Any]:
    """The "C4" models: regions pooled once, then the last stage of the ResNet, which all heads share."""
    pooling = _pooling(config, "MODEL.ROI_BOX_HEAD", features)
    pooling["size"] = pooling.pop("pool_size")
    head = "MODEL.ROI_BOX_HEAD"
    config.unused(*(f"{head}.{key}" for key in ("NAME", "NUM_FC", "FC_DIM", "NUM_CONV", "CONV_DIM", "NORM")))
    config.unused(f"{head}.TRAIN_ON_PRED_BOXES", "MODEL.ROI_MASK_HEAD.POOLER_TYPE")
    config.unused("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO")
    heads = {"box": {"name": "box", "layers": 0, **_box_predictor(config)}}
    if config.take("MODEL.MASK_ON"):
        heads["mask"] = _mask_head(config)
    else:
        config.unused("MODEL.ROI_MASK_HEAD")
    return {"roi_pooling": pooling, "roi_trunk": res5(config), "heads": heads}


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
    config.expect(f"{head}.NAME", "FastRCNNConvFCHead")
    config.expect(f"{head}.NUM_CONV", 0)
    config.expect(f"{head}.NORM", "")
    config.expect(f"{head}.TRAIN_ON_PRED_BOXES", False)
    config.unused(f"{head}.CONV_DIM")
    return {
        "name": "box",
        "layers": config.take(f"{head}.NUM_FC"),
        "channels": config.take(f"{head}.FC_DIM"),
        **_box_predictor(config),
    }


def _box_predictor(config: Detectron2Config) -> dict[str, Any]:
    """What FastRCNNOutputLayers reads: how boxes are predicted, trained and selected."""
    head = "MODEL.ROI_BOX_HEAD"
    config.expect(f"{head}.CLS_AGNOSTIC_BBOX_REG", False)
    config.expect(f"{head}.BBOX_REG_LOSS_TYPE", "smooth_l1")
    config.expect(f"{head}.USE_SIGMOID_CE", False)
    config.expect(f"{head}.USE_FED_LOSS", False)
    config.unused(f"{head}.FED_LOSS_FREQ_WEIGHT_POWER", f"{head}.FED_LOSS_NUM_CLASSES")
    return {
        "num_classes": config.take("MODEL.ROI_HEADS.NUM_CLASSES"),
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
