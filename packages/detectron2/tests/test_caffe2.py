"""Detectron's configs and checkpoints."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import detkit
from det_detectron2.caffe2 import converted
from det_detectron2.caffe2_config import CANNOT_MATTER, DEFAULTS, DetectronConfig
from det_detectron2.caffe2_tree import anchors, model_tree
from detkit.cli.main import main
from detkit.plugins import registry
from detkit.structures.coco import COCO, COCO_PERSON

ALIGN = {"ROI_XFORM_METHOD": "RoIAlign", "ROI_XFORM_SAMPLING_RATIO": 2}
MASK_RCNN: dict[str, Any] = {
    "MODEL": {
        "TYPE": "generalized_rcnn",
        "CONV_BODY": "FPN.add_fpn_ResNet50_conv5_body",
        "NUM_CLASSES": 81,
        "FASTER_RCNN": True,
        "MASK_ON": True,
    },
    "NUM_GPUS": 8,
    "SOLVER": {"BASE_LR": 0.02, "STEPS": [0, 120000, 160000]},
    "FPN": {"FPN_ON": True, "MULTILEVEL_ROIS": True, "MULTILEVEL_RPN": True},
    "FAST_RCNN": {"ROI_BOX_HEAD": "fast_rcnn_heads.add_roi_2mlp_head", **ALIGN, "ROI_XFORM_RESOLUTION": 7},
    "MRCNN": {
        "ROI_MASK_HEAD": "mask_rcnn_heads.mask_rcnn_fcn_head_v1up4convs",
        "RESOLUTION": 28,
        **ALIGN,
        "ROI_XFORM_RESOLUTION": 14,
        "DILATION": 1,
        "CONV_INIT": "MSRAFill",
    },
    "TRAIN": {"DATASETS": "('coco_2014_train', 'coco_2014_valminusminival')", "BATCH_SIZE_PER_IM": 512},
    "TEST": {"SCALE": 800, "MAX_SIZE": 1333, "NMS": 0.5, "RPN_PRE_NMS_TOP_N": 1000, "RPN_POST_NMS_TOP_N": 1000},
    "OUTPUT_DIR": ".",
}


def config(**changes: Any) -> dict[str, Any]:
    """A Mask R-CNN of Detectron's zoo; `changes` by dotted key, None takes a key or a section out."""
    tree: dict[str, Any] = yaml.safe_load(yaml.safe_dump(MASK_RCNN))
    for key, value in changes.items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        if value is None:
            del node[last]
        else:
            node[last] = value
    return tree


C4 = {
    "FPN": None,
    "MODEL.CONV_BODY": "ResNet.add_ResNet50_conv4_body",
    "RPN.SIZES": "(32, 64, 128, 256, 512)",
    "FAST_RCNN": {"ROI_BOX_HEAD": "ResNet.add_ResNet_roi_conv5_head", "ROI_XFORM_METHOD": "RoIAlign"},
    "MRCNN": {
        "ROI_MASK_HEAD": "mask_rcnn_heads.mask_rcnn_fcn_head_v0upshare",
        "RESOLUTION": 14,
        "ROI_XFORM_METHOD": "RoIAlign",
        "ROI_XFORM_RESOLUTION": 14,
        "DILATION": 1,
    },
}
GN = {
    "FPN.USE_GN": True,
    "RESNETS": {
        "STRIDE_1X1": False,
        "TRANS_FUNC": "bottleneck_gn_transformation",
        "STEM_FUNC": "basic_gn_stem",
        "SHORTCUT_FUNC": "basic_gn_shortcut",
    },
    "FAST_RCNN.ROI_BOX_HEAD": "fast_rcnn_heads.add_roi_Xconv1fc_gn_head",
    "MRCNN.ROI_MASK_HEAD": "mask_rcnn_heads.mask_rcnn_fcn_head_v1up4convs_gn",
}
KEYPOINTS = {
    "MODEL.NUM_CLASSES": 2,
    "MODEL.MASK_ON": False,
    "MODEL.KEYPOINTS_ON": True,
    "MRCNN": None,
    "RESNETS": {"STRIDE_1X1": False, "NUM_GROUPS": 32, "WIDTH_PER_GROUP": 8},
    "KRCNN": {
        "ROI_KEYPOINTS_HEAD": "keypoint_rcnn_heads.add_roi_pose_head_v1convX",
        "NUM_STACKED_CONVS": 8,
        "NUM_KEYPOINTS": 17,
        "USE_DECONV_OUTPUT": True,
        "CONV_HEAD_DIM": 512,
        "UP_SCALE": 2,
        "HEATMAP_SIZE": 56,
        **ALIGN,
        "ROI_XFORM_RESOLUTION": 14,
    },
    "TRAIN.DATASETS": "('keypoints_coco_2014_train',)",
    "TEST.SCALES": "(800,)",
    "TEST.SCALE": None,
}
RETINANET = {
    "MODEL": {"TYPE": "retinanet", "CONV_BODY": "FPN.add_fpn_ResNet50_conv5_body", "NUM_CLASSES": 81},
    "FPN": {
        "FPN_ON": True,
        "MULTILEVEL_RPN": True,
        "RPN_MAX_LEVEL": 7,
        "RPN_MIN_LEVEL": 3,
        "COARSEST_STRIDE": 128,
        "EXTRA_CONV_LEVELS": True,
    },
    "RETINANET": {"RETINANET_ON": True, "ASPECT_RATIOS": "(1.0, 2.0, 0.5)"},
    "FAST_RCNN": None,
    "MRCNN": None,
    "TEST.RPN_PRE_NMS_TOP_N": 10000,
}
PROPOSALS = {
    "MODEL.RPN_ONLY": True,
    "MODEL.MASK_ON": False,
    "MODEL.FASTER_RCNN": False,
    "FAST_RCNN": None,
    "MRCNN": None,
}
RFCN = {
    **C4,
    "MODEL": {"TYPE": "rfcn", "CONV_BODY": "ResNet.add_ResNet50_conv5_body", "NUM_CLASSES": 21},
    "RESNETS.RES5_DILATION": 2,
    "FAST_RCNN": None,
    "MRCNN": None,
    "TRAIN.DATASETS": "('voc_2007_trainval',)",
}
VGG16 = {
    "FPN": None,
    "MODEL.CONV_BODY": "VGG16.add_VGG16_conv5_body",
    "MODEL.MASK_ON": False,
    "RPN.SIZES": "(32, 64, 128, 256, 512)",
    "FAST_RCNN": {"ROI_BOX_HEAD": "VGG16.add_VGG16_roi_fc_head", **ALIGN, "ROI_XFORM_RESOLUTION": 14},
    "MRCNN": None,
}
VARIANTS = {
    "Mask R-CNN": {},
    "C4": C4,
    "group norm": GN,
    "keypoints": KEYPOINTS,
    "RetinaNet": RETINANET,
    "proposals": PROPOSALS,
    "given proposals": {"MODEL.FASTER_RCNN": False, "TRAIN.PROPOSAL_FILES": "('proposals.pkl',)"},
    "R-FCN": RFCN,
    "VGG-16": VGG16,
}


def blobs(variant: str) -> dict[str, Tensor]:
    """Detectron's names and shapes of the arrays of a variant, without values."""
    shapes: dict[str, tuple[int, ...]] = {}
    norm = "gn" if variant == "group norm" else "bn"

    def normed(name: str, shape: tuple[int, ...], norm_name: str | None = None) -> None:
        shapes[f"{name}_w"] = shape
        shapes.update({f"{norm_name or name}_{norm}_{leaf}": shape[:1] for leaf in "sb"})

    def layer(name: str, shape: tuple[int, ...], outputs: int | None = None) -> None:
        shapes.update({f"{name}_w": shape, f"{name}_b": (outputs or shape[0],), f"{name}_w_momentum": shape})

    def normed_or_not(name: str, shape: tuple[int, ...]) -> None:
        (normed if norm == "gn" else layer)(name, shape)

    if variant == "VGG-16":
        return {name: torch.empty(shape, device="meta") for name, shape in vgg16_shapes().items()}
    normed("conv1", (64, 3, 7, 7), "conv1" if norm == "gn" else "res_conv1")
    inputs = 64
    for stage, count in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
        outputs, width = 2 ** (stage + 6), 2 ** (stage + 4) * (4 if variant == "keypoints" else 1)
        for block in range(count if variant != "proposals of C4" else 0):
            width_in = width // 32 if variant == "keypoints" else width
            normed(f"res{stage}_{block}_branch2a", (width, inputs, 1, 1))
            normed(f"res{stage}_{block}_branch2b", (width, width_in, 3, 3))
            normed(f"res{stage}_{block}_branch2c", (outputs, width, 1, 1))
            if inputs != outputs:
                normed(f"res{stage}_{block}_branch1", (outputs, inputs, 1, 1))
            inputs = outputs
    if variant not in ("C4", "R-FCN"):
        for stage, count in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
            if stage == 2 and variant == "RetinaNet":
                continue
            lateral = "" if stage == 5 else "_lateral"
            normed_or_not(f"fpn_inner_res{stage}_{count - 1}_sum{lateral}", (256, 2 ** (stage + 6), 1, 1))
            normed_or_not(f"fpn_res{stage}_{count - 1}_sum", (256, 256, 3, 3))
    if variant == "RetinaNet":
        layer("fpn_6", (256, 2048, 3, 3))
        layer("fpn_7", (256, 256, 3, 3))
        for number in range(4):
            layer(f"retnet_cls_conv_n{number}_fpn3", (256, 256, 3, 3))
            layer(f"retnet_bbox_conv_n{number}_fpn3", (256, 256, 3, 3))
        layer("retnet_cls_pred_fpn3", (9 * 80, 256, 3, 3))
        layer("retnet_bbox_pred_fpn3", (9 * 4, 256, 3, 3))
    elif variant == "R-FCN":
        layer("conv_dim_reduce", (1024, 2048, 1, 1))
        layer("conv_cls", (21 * 9, 1024, 1, 1))
        layer("conv_bbox_pred", (21 * 4 * 9, 1024, 1, 1))
    elif variant != "given proposals":
        width, count, level = (1024, 15, "") if variant == "C4" else (256, 3, "_fpn2")
        layer(f"conv_rpn{level}", (width, width, 3, 3))
        layer(f"rpn_cls_logits{level}", (count, width, 1, 1))
        layer(f"rpn_bbox_pred{level}", (4 * count, width, 1, 1))
    if variant in ("RetinaNet", "R-FCN", "proposals"):
        return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    classes, width = 2 if variant == "keypoints" else 81, 2048 if variant == "C4" else 1024
    if variant == "group norm":
        for number in range(4):
            normed(f"head_conv{number + 1}", (256, 256, 3, 3))
        layer("fc6", (1024, 256 * 49))
    elif variant != "C4":
        layer("fc6", (1024, 256 * 49))
        layer("fc7", (1024, 1024))
    layer("cls_score", (classes, width))
    layer("bbox_pred", (4 * classes, width))
    if variant == "keypoints":
        for number in range(8):
            layer(f"conv_fcn{number + 1}", (512, 512 if number else 256, 3, 3))
        layer("kps_score_lowres", (512, 17, 4, 4), 17)
        layer("kps_score", (17, 17, 4, 4))
    else:
        for number in range(0 if variant == "C4" else 4):
            normed_or_not(f"_[mask]_fcn{number + 1}", (256, 256, 3, 3))
        layer("conv5_mask", (2048 if variant == "C4" else 256, 256, 2, 2), 256)
        layer("mask_fcn_logits", (81, 256, 1, 1))
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def vgg16_shapes() -> dict[str, tuple[int, ...]]:
    """Detectron's names and shapes of the arrays of a Faster R-CNN with VGG-16."""
    inputs, weights = 3, {}
    for stage, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for number in range(1, count + 1):
            weights[f"conv{stage}_{number}"] = (width, inputs, 3, 3)
            inputs = width
    weights |= {"conv_rpn": (512, 512, 3, 3), "rpn_cls_logits": (15, 512, 1, 1), "rpn_bbox_pred": (60, 512, 1, 1)}
    weights |= {"fc6": (4096, 512 * 49), "fc7": (4096, 4096), "cls_score": (81, 4096), "bbox_pred": (324, 4096)}
    return {f"{name}_{leaf}": shape if leaf == "w" else shape[:1] for name, shape in weights.items() for leaf in "wb"}


def write(tmp_path: Path, **changes: Any) -> Path:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config(**changes)))
    return tmp_path / "config.yaml"


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_array_has_its_place(tmp_path: Path, variant: str) -> None:
    path = write(tmp_path, **VARIANTS[variant])
    with torch.device("meta"):
        model, _ = converted(path, blobs(variant), "model_final.pkl")
    wanted = {"keypoints": COCO_PERSON, "R-FCN": None}.get(variant, COCO)
    assert wanted is None or model.categories == wanted


def test_a_checkpoint_becomes_a_model(tmp_path: Path) -> None:
    """Background, which is class 0 in Detectron, goes to the end, and boxes and masks have none."""
    generator = np.random.default_rng(0)
    arrays = {name: generator.random(value.shape, np.float32) for name, value in blobs("C4").items()}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"blobs": arrays, "cfg": "MODEL: {}"}, protocol=2))
    files = [str(write(tmp_path, **C4)), str(tmp_path / "model.pkl")]
    assert main(["convert", "detectron", *files, "--out", str(tmp_path / "out")]) == 0
    model = detkit.load(tmp_path / "out")
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    assert (state["heads.box.predictor.scores.weight"] == np.roll(arrays["cls_score_w"], -1, axis=0)).all()
    assert (state["heads.box.predictor.deltas.bias"] == arrays["bbox_pred_b"][4:]).all()
    assert (state["heads.mask.predictor.logits.weight"] == arrays["mask_fcn_logits_w"][1:]).all()
    assert (state["roi_trunk.res5.2.conv1.weight"] == arrays["res5_2_branch2a_w"]).all()
    scale, shift = model.backbone.res3[1].conv2.norm.affine()
    np.testing.assert_allclose(scale, arrays["res3_1_branch2b_bn_s"], rtol=1e-6)
    np.testing.assert_allclose(shift, arrays["res3_1_branch2b_bn_b"], rtol=1e-6)
    assert model.input.mean == (102.9801, 115.9465, 122.7717)
    assert (model.input.channel_order, model.input.min_size, model.divisor) == ("bgr", 800, 1)


def test_the_config_decides_the_model() -> None:
    tree = model_tree(DetectronConfig(config(**{"TEST.SCORE_THRESH": 0.1, "FPN.RPN_ANCHOR_START_SIZE": 16})))
    assert tree["backbone"]["stride_in_1x1"] is True
    assert tree["neck"]["top"] == "pool"
    assert tree["heads"]["box"]["score_threshold"] == 0.1
    assert tree["heads"]["box"]["smooth_l1_beta"] == 1.0
    assert tree["proposal_generator"]["pre_nms_test"] == 1000
    assert tree["proposal_generator"]["pre_nms_train"] == 12000  # a default of Detectron's
    assert tree["proposal_generator"]["anchor_boxes"][0] == anchors(4, [16], [0.5, 1, 2])
    assert model_tree(DetectronConfig(config(**RETINANET)))["input"]["divisor"] == 128


def test_vgg16_has_a_head_of_its_own() -> None:
    """Detectron pools 7 x 7 for it, whatever the config says."""
    tree = model_tree(DetectronConfig(config(**VGG16)))
    assert tree["backbone"] == {"name": "vgg", "depth": 16, "freeze_at": 2, "out_features": ["conv5"]}
    assert (tree["neck"], tree["input"]["divisor"]) == (None, 1)
    assert tree["proposal_generator"]["in_features"] == ["conv5"]
    assert tree["proposal_generator"]["anchor_boxes"] == [anchors(16, [32, 64, 128, 256, 512], [0.5, 1, 2])]
    box = tree["heads"]["box"]
    assert (box["in_features"], box["pool_size"], box["layers"], box["channels"]) == (["conv5"], 7, 2, 4096)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"MODEL.FANCY": 1}, "MODEL.FANCY (= 1) is no key of Detectron"),
        ({"TEST.SOFT_NMS.ENABLED": True}, "TEST.SOFT_NMS.ENABLED is True; only False has a counterpart"),
        ({"MRCNN.UPSAMPLE_RATIO": 2}, "MRCNN.UPSAMPLE_RATIO is 2; only 1 has a counterpart"),
        ({"FAST_RCNN.ROI_XFORM_METHOD": "RoIPoolF"}, "only 'RoIAlign' has a counterpart"),
        ({"FAST_RCNN.ROI_BOX_HEAD": "add_VGG_CNN_M_1024_roi_fc_head"}, "only 'add_roi_2mlp_head' or"),
        ({**VGG16, "FAST_RCNN": C4["FAST_RCNN"]}, "only 'add_roi_2mlp_head' or"),
        (
            {"MODEL.CONV_BODY": "VGG_CNN_M_1024.add_VGG_CNN_M_1024_conv5_body"},
            "only bodies such as FPN.add_fpn_ResNet50",
        ),
        ({"TEST.NMS": "much"}, "TEST.NMS is 'much'; Detectron wants something like 0.3"),
        ({"MODEL.TYPE": None}, "not a config of Detectron: it has no MODEL.TYPE"),
        ({"MODEL.META_ARCHITECTURE": "GeneralizedRCNN"}, "a config of Detectron2: detkit convert detectron2"),
    ],
)
def test_what_has_no_counterpart_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=r"config\.yaml") as caught:
        converted(write(tmp_path, **changes), {}, "model_final.pkl")
    assert words in str(caught.value)


def test_missing_and_left_over_blobs_are_listed(tmp_path: Path) -> None:
    arrays = blobs("Mask R-CNN")
    arrays["fancy_w"] = arrays.pop("fc7_b")
    with torch.device("meta"), pytest.raises(ValueError, match=r"model_final\.pkl does not fit") as caught:
        converted(write(tmp_path), arrays, "model_final.pkl")
    assert "fancy_w has no counterpart" in str(caught.value)
    assert "1 missing: heads.box.trunk.linears.1.bias" in str(caught.value)


def test_weights_are_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "detectron", str(write(tmp_path)), "--out", str(tmp_path / "out")]) != 0
    assert "needs two files" in capsys.readouterr().err


def test_keys_are_either_known_or_cannot_matter() -> None:
    assert not any(
        key == prefix or key.startswith(prefix + ".")
        for key in DetectronConfig(config())._values
        for prefix in CANNOT_MATTER
        if key.split(".")[0] in DEFAULTS and key not in ("TRAIN.DATASETS",)
    )


def test_the_format_is_registered() -> None:
    assert "detectron" in registry().names("checkpoint_format")
