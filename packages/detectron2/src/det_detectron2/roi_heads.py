"""Detectron2's ROI heads: config to components, names of their arrays to ours."""

from __future__ import annotations

from typing import Any

from det_detectron2.backbones import res5
from det_detectron2.config import NORMS, Detectron2Config

NAMES = (
    (r"roi_heads\.box_head\.fc(\d+)\.(weight|bias)", r"heads.box.trunk.linears.{\1-1}.\2"),
    (r"roi_heads\.box_head\.conv(\d+)\.(.+)", r"heads.box.trunk.convs.{\1-1}.\2"),
    (r"roi_heads\.box_predictor\.cls_score\.(weight|bias)", r"heads.box.predictor.scores.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(weight|bias)", r"heads.box.predictor.deltas.\1"),
    (r"roi_heads\.box_head\.(\d)\.fc(\d+)\.(weight|bias)", r"heads.box.trunks.\1.linears.{\2-1}.\3"),
    (r"roi_heads\.box_head\.(\d)\.conv(\d+)\.(.+)", r"heads.box.trunks.\1.convs.{\2-1}.\3"),
    (r"roi_heads\.box_predictor\.(\d)\.cls_score\.(weight|bias)", r"heads.box.predictors.\1.scores.\2"),
    (r"roi_heads\.box_predictor\.(\d)\.bbox_pred\.(weight|bias)", r"heads.box.predictors.\1.deltas.\2"),
    (r"roi_heads\.keypoint_head\.conv_fcn(\d+)\.(.+)", r"heads.keypoint.trunk.{\1-1}.\2"),
    (r"roi_heads\.keypoint_head\.score_lowres\.(weight|bias)", r"heads.keypoint.upsample.\1"),
    (r"roi_heads\.mask_head\.mask_fcn(\d+)\.(.+)", r"heads.mask.trunk.{\1-1}.\2"),
    (r"roi_heads\.mask_head\.deconv\.(weight|bias)", r"heads.mask.predictor.upsample.\1"),
    (r"roi_heads\.mask_head\.predictor\.(weight|bias)", r"heads.mask.predictor.logits.\1"),
)
# How often the classes are in the training data, to a power: the federated loss has it from there
DERIVED = (r"roi_heads\.box_predictor\.(?:\d\.)?fed_loss_cls_weights",)


def roi_heads(config: Detectron2Config) -> dict[str, Any]:
    """`heads` and the `sampling` of their training."""
    own = {"StandardROIHeads": standard_heads, "CascadeROIHeads": cascade_heads, "Res5ROIHeads": res5_heads}
    found: dict[str, Any] = config.part("MODEL.ROI_HEADS.NAME", own)
    return found


def standard_heads(config: Detectron2Config) -> dict[str, Any]:
    """Heads that pool for themselves."""
    config.unused("MODEL.ROI_BOX_CASCADE_HEAD")
    return _pooling_heads(config, _box_head(config))


def cascade_heads(config: Detectron2Config) -> dict[str, Any]:
    """Heads that pool for themselves, boxes in stages."""
    return _pooling_heads(config, _cascade_head(config))


def _pooling_heads(config: Detectron2Config, box: dict[str, Any]) -> dict[str, Any]:
    heads = {"box": {**box, **pooling(config, "MODEL.ROI_BOX_HEAD")}}
    if config.take("MODEL.MASK_ON"):
        heads["mask"] = config.part("MODEL.ROI_MASK_HEAD.NAME", {"MaskRCNNConvUpsampleHead": mask_head})
    else:
        config.unused("MODEL.ROI_MASK_HEAD")
    if config.take("MODEL.KEYPOINT_ON"):
        own = {"KRCNNConvDeconvUpsampleHead": keypoint_head}
        heads["keypoint"] = config.part("MODEL.ROI_KEYPOINT_HEAD.NAME", own)
    else:
        config.unused("MODEL.ROI_KEYPOINT_HEAD")
    return {"heads": heads, "sampling": sampling(config)}


def res5_heads(config: Detectron2Config) -> dict[str, Any]:
    """The "C4" models: regions pooled once, then the last stage of the ResNet, which all heads share."""
    config.unused("MODEL.ROI_BOX_CASCADE_HEAD")
    shared = pooling(config, "MODEL.ROI_BOX_HEAD")
    shared["size"] = shared.pop("pool_size")
    head = "MODEL.ROI_BOX_HEAD"
    config.expect("MODEL.KEYPOINT_ON", False)
    config.unused("MODEL.ROI_KEYPOINT_HEAD")
    config.unused(*(f"{head}.{key}" for key in ("NAME", "NUM_FC", "FC_DIM", "NUM_CONV", "CONV_DIM", "NORM")))
    config.unused(f"{head}.TRAIN_ON_PRED_BOXES", "MODEL.ROI_MASK_HEAD.POOLER_TYPE")
    config.unused("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO")
    heads = {"box": {"name": "box", "layers": 0, **box_predictor(config)}}
    if config.take("MODEL.MASK_ON"):
        heads["mask"] = config.part("MODEL.ROI_MASK_HEAD.NAME", {"MaskRCNNConvUpsampleHead": _mask_head})
    else:
        config.unused("MODEL.ROI_MASK_HEAD")
    return {"roi_pooling": shared, "roi_trunk": res5(config), "heads": heads, "sampling": sampling(config)}


def pooling(config: Detectron2Config, head: str) -> dict[str, Any]:
    """How a head, such as "MODEL.ROI_MASK_HEAD", pools its regions."""
    pooler = config.expect(f"{head}.POOLER_TYPE", "ROIAlignV2", "ROIAlign")
    return {
        "in_features": config.take("MODEL.ROI_HEADS.IN_FEATURES"),
        "pool_size": config.take(f"{head}.POOLER_RESOLUTION"),
        "sampling_ratio": config.take(f"{head}.POOLER_SAMPLING_RATIO"),
        "aligned": pooler == "ROIAlignV2",
    }


def _box_head(config: Detectron2Config) -> dict[str, Any]:
    return {
        "name": "box",
        **box_trunk(config),
        **box_predictor(config),
        "train_on_predicted": config.take("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES"),
    }


def _cascade_head(config: Detectron2Config) -> dict[str, Any]:
    config.expect("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True)
    config.unused("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES")  # which Detectron2's cascade does not look at
    first, *ious = config.take("MODEL.ROI_BOX_CASCADE_HEAD.IOUS")
    config.expect("MODEL.ROI_HEADS.IOU_THRESHOLDS", [first])
    predictor = box_predictor(config)
    del predictor["class_agnostic"]
    return {
        "name": "cascade",
        **box_trunk(config),
        **predictor,
        "ious": ious,
        "box_weights": config.take("MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS"),
    }


def box_trunk(config: Detectron2Config) -> dict[str, Any]:
    head = "MODEL.ROI_BOX_HEAD"
    config.expect(f"{head}.NAME", "FastRCNNConvFCHead")
    return {
        "convs": config.take(f"{head}.NUM_CONV"),
        "conv_channels": config.take(f"{head}.CONV_DIM"),
        "norm": NORMS.get(config.expect(f"{head}.NORM", *NORMS), ""),
        "layers": config.take(f"{head}.NUM_FC"),
        "channels": config.take(f"{head}.FC_DIM"),
    }


def box_predictor(config: Detectron2Config) -> dict[str, Any]:
    """What FastRCNNOutputLayers reads: how boxes are predicted, trained and selected."""
    head = "MODEL.ROI_BOX_HEAD"
    return {
        "num_classes": config.take("MODEL.ROI_HEADS.NUM_CLASSES"),
        "class_agnostic": config.take(f"{head}.CLS_AGNOSTIC_BBOX_REG"),
        "class_loss": "sigmoid" if config.take(f"{head}.USE_SIGMOID_CE") else "softmax",
        "federated": _federated(config),
        "box_loss": config.expect(f"{head}.BBOX_REG_LOSS_TYPE", "smooth_l1", "giou", "diou", "ciou"),
        "box_weights": config.take(f"{head}.BBOX_REG_WEIGHTS"),
        "smooth_l1_beta": config.take(f"{head}.SMOOTH_L1_BETA"),
        "box_weight": config.take(f"{head}.BBOX_REG_LOSS_WEIGHT"),
        "score_threshold": config.take("MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
        "nms_iou": config.take("MODEL.ROI_HEADS.NMS_THRESH_TEST"),
        "detections_per_image": config.take("TEST.DETECTIONS_PER_IMAGE"),
    }


def _federated(config: Detectron2Config) -> dict[str, Any] | None:
    """Without the frequencies of classes, which are not in the config but in the data: training needs them."""
    head = "MODEL.ROI_BOX_HEAD"
    if not config.take(f"{head}.USE_FED_LOSS"):
        config.unused(f"{head}.FED_LOSS_FREQ_WEIGHT_POWER", f"{head}.FED_LOSS_NUM_CLASSES")
        return None
    return {
        "classes": config.take(f"{head}.FED_LOSS_NUM_CLASSES"),
        "power": config.take(f"{head}.FED_LOSS_FREQ_WEIGHT_POWER"),
    }


def mask_head(config: Detectron2Config) -> dict[str, Any]:
    """Mask R-CNN's, with the pooling of its regions."""
    return {**_mask_head(config), **pooling(config, "MODEL.ROI_MASK_HEAD")}


def _mask_head(config: Detectron2Config) -> dict[str, Any]:
    head = "MODEL.ROI_MASK_HEAD"
    return {
        "name": "mask",
        "num_classes": config.take("MODEL.ROI_HEADS.NUM_CLASSES"),
        "class_agnostic": config.take(f"{head}.CLS_AGNOSTIC_MASK"),
        "layers": config.take(f"{head}.NUM_CONV"),
        "channels": config.take(f"{head}.CONV_DIM"),
        "norm": NORMS.get(config.expect(f"{head}.NORM", *NORMS), ""),
    }


def keypoint_head(config: Detectron2Config) -> dict[str, Any]:
    """Mask R-CNN's for keypoints, with the pooling of its regions."""
    head = "MODEL.ROI_KEYPOINT_HEAD"
    config.unused(f"{head}.MIN_KEYPOINTS_PER_IMAGE")  # which images are trained on
    keypoints = config.take(f"{head}.NUM_KEYPOINTS")
    by_visible = config.take(f"{head}.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS")
    foreground = config.take("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE") * config.take("MODEL.ROI_HEADS.POSITIVE_FRACTION")
    return {
        "name": "keypoint",
        "num_classes": config.take("MODEL.ROI_HEADS.NUM_CLASSES"),
        "num_keypoints": keypoints,
        "channels": config.take(f"{head}.CONV_DIMS"),
        "keypoints_per_image": None if by_visible else keypoints * foreground,
        "weight": config.take(f"{head}.LOSS_WEIGHT"),
        **pooling(config, head),
    }


def sampling(config: Detectron2Config) -> dict[str, Any]:
    """Which proposals heads are trained on."""
    config.expect("MODEL.ROI_HEADS.IOU_LABELS", [0, 1])
    thresholds = config.take("MODEL.ROI_HEADS.IOU_THRESHOLDS")
    return {
        "batch_size_per_image": config.take("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"),
        "foreground_fraction": config.take("MODEL.ROI_HEADS.POSITIVE_FRACTION"),
        "iou": thresholds[0],
        "append_targets": config.take("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT"),
    }
