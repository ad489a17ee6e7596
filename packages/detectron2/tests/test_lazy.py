"""Python configs against the YAML configs that mean the same: one tree of components from both."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from det_detectron2.architectures import ARCHITECTURES
from det_detectron2.config import Detectron2Config
from det_detectron2.lazy import LazyLoader, resolved, short_name

HERE = Path(__file__).parent
Tree = dict[str, Any]
Change = Callable[[Tree], None]


def lazy() -> Tree:
    tree: Tree = yaml.load((HERE / "lazy_mask_rcnn.yaml").read_text(), LazyLoader)
    return tree


def call(target: str, **arguments: Any) -> Tree:
    return {"_target_": f"detectron2.modeling.{target}", **arguments}


def read(tree: Tree, folder: Path) -> Detectron2Config:
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return Detectron2Config.read(folder / "config.yaml")


def built(config: Detectron2Config) -> Tree:
    """The tree of components, of a config of which nothing is left over."""
    tree = ARCHITECTURES[config.take("MODEL.META_ARCHITECTURE")].tree(config)
    assert config.problems() == []
    return tree


def from_yaml(**changes: Any) -> Tree:
    tree = yaml.safe_load((HERE / "mask_rcnn.yaml").read_text())
    for key, value in changes.items():
        *path, last = key.split(".")
        node = tree["MODEL"]
        for part in path:
            node = node[part]
        node[last] = value
    return built(Detectron2Config(tree))


def test_the_file_that_detectron2_writes_means_what_the_yaml_config_means() -> None:
    assert built(Detectron2Config.read(HERE / "lazy_mask_rcnn.yaml")) == from_yaml()


def baseline(model: Tree) -> None:
    """As in new_baselines."""
    model["backbone"]["bottom_up"].update(freeze_at=0)
    for part in (model["backbone"]["bottom_up"]["stem"], model["backbone"]["bottom_up"]["stages"], model["backbone"]):
        part["norm"] = "SyncBN"
    model["proposal_generator"]["head"]["conv_dims"] = [-1, -1]
    model["roi_heads"]["box_head"].update(conv_dims=[8] * 4, fc_dims=[16], conv_norm="naiveSyncBN_N")
    model["roi_heads"]["mask_head"].update(conv_norm="BN")


BASELINE = {
    "BACKBONE.FREEZE_AT": 0,
    "RESNETS.NORM": "SyncBN",
    "FPN.NORM": "SyncBN",
    "RPN.CONV_DIMS": [-1, -1],
    "ROI_BOX_HEAD.NUM_CONV": 4,
    "ROI_BOX_HEAD.CONV_DIM": 8,
    "ROI_BOX_HEAD.NUM_FC": 1,
    "ROI_BOX_HEAD.NORM": "SyncBN",
    "ROI_MASK_HEAD.NORM": "BN",
}


def losses(model: Tree) -> None:
    rpn, predictor = model["proposal_generator"], model["roi_heads"]["box_predictor"]
    rpn.update(box_reg_loss_type="giou", smooth_l1_beta=0.1, loss_weight={"loss_rpn_cls": 2.0, "loss_rpn_loc": 3.0})
    predictor.update(box_reg_loss_type="ciou", loss_weight={"loss_box_reg": 5.0}, cls_agnostic_bbox_reg=True)
    predictor.update(use_sigmoid_ce=True, use_fed_loss=True, get_fed_loss_cls_weights="a.function")
    model["roi_heads"].update(proposal_append_gt=False, train_on_pred_boxes=True)
    model["roi_heads"]["mask_head"]["num_classes"] = 1


LOSSES = {
    "RPN.BBOX_REG_LOSS_TYPE": "giou",
    "RPN.SMOOTH_L1_BETA": 0.1,
    "RPN.LOSS_WEIGHT": 2.0,
    "RPN.BBOX_REG_LOSS_WEIGHT": 1.5,
    "ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "ciou",
    "ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 5.0,
    "ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    "ROI_BOX_HEAD.USE_SIGMOID_CE": True,
    "ROI_BOX_HEAD.USE_FED_LOSS": True,
    "ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": True,
    "ROI_HEADS.PROPOSAL_APPEND_GT": False,
    "ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True,
}


def faster(model: Tree) -> None:
    """Without masks, and with everything that may be left out left to Detectron2's defaults."""
    for argument in ("mask_in_features", "mask_pooler", "mask_head"):
        del model["roi_heads"][argument]
    del model["proposal_generator"]["anchor_generator"]["offset"]
    del model["proposal_generator"]["nms_thresh"]
    del model["roi_heads"]["box_predictor"]["test_score_thresh"]
    del model["backbone"]["bottom_up"]["freeze_at"]
    model["backbone"]["bottom_up"]["out_features"] = ["res2", "res3", "res4", "res5"]


FASTER = {
    "MASK_ON": False,
    "ANCHOR_GENERATOR.OFFSET": 0.5,
    "ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "BACKBONE.FREEZE_AT": 0,
}


def cascade(model: Tree) -> None:
    heads = model["roi_heads"]
    head, predictor = heads.pop("box_head"), heads.pop("box_predictor")
    matcher = heads.pop("proposal_matcher")
    predictor.update(cls_agnostic_bbox_reg=True, num_classes="${...num_classes}")
    weights = ([10, 10, 5, 5], [20, 20, 10, 10], [30, 30, 15, 15])
    transform = predictor["box2box_transform"]
    heads.update(
        _target_="detectron2.modeling.roi_heads.CascadeROIHeads",
        box_heads=[copy.deepcopy(head) for _ in range(3)],
        box_predictors=[{**predictor, "box2box_transform": {**transform, "weights": each}} for each in weights],
        proposal_matchers=[{**matcher, "thresholds": [each]} for each in (0.5, 0.6, 0.7)],
    )


CASCADE = {"ROI_HEADS.NAME": "CascadeROIHeads", "ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True}


def keypoint(model: Tree) -> None:
    faster(model)
    heads = model["roi_heads"]
    head = {"input_shape": {"channels": 32}, "num_keypoints": 5, "conv_dims": [8, 8], "loss_normalizer": "visible"}
    heads.update(
        num_classes=1,
        keypoint_in_features=["p2", "p3", "p4", "p5"],
        keypoint_pooler={**heads["box_pooler"], "output_size": 14},
        keypoint_head=call("roi_heads.KRCNNConvDeconvUpsampleHead", **head),
    )


KEYPOINT = {
    **FASTER,
    "KEYPOINT_ON": True,
    "ROI_HEADS.NUM_CLASSES": 1,
    "ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": 5,
    "ROI_KEYPOINT_HEAD.CONV_DIMS": [8, 8],
}


def keypoint_by_capacity(model: Tree) -> None:
    keypoint(model)
    model["roi_heads"]["keypoint_head"].update(loss_normalizer=5 * 512 * 0.25, loss_weight=2.0)


BY_CAPACITY = {
    **KEYPOINT,
    "ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": False,
    "ROI_KEYPOINT_HEAD.LOSS_WEIGHT": 2.0,
}


def panoptic(model: Tree) -> None:
    shapes = {
        f"p{level}": call("ShapeSpec", stride=2**level, channels="${....backbone.out_channels}")
        for level in (5, 2, 3, 4)
    }
    head = {"num_classes": 9, "conv_dims": 16, "common_stride": 4, "loss_weight": 0.5, "norm": "GN"}
    model.update(
        _target_="detectron2.modeling.PanopticFPN",
        sem_seg_head=call("meta_arch.semantic_seg.SemSegFPNHead", input_shape=shapes, ignore_value=255, **head),
        combine_overlap_thresh=0.4,
    )


PANOPTIC = {
    "META_ARCHITECTURE": "PanopticFPN",
    "SEM_SEG_HEAD.NUM_CLASSES": 9,
    "SEM_SEG_HEAD.CONVS_DIM": 16,
    "SEM_SEG_HEAD.LOSS_WEIGHT": 0.5,
    "PANOPTIC_FPN.COMBINE.OVERLAP_THRESH": 0.4,
}


def res5(model: Tree) -> None:
    """As mask_rcnn_R_50_C4."""
    model["backbone"] = model["backbone"]["bottom_up"]
    model["backbone"].update(out_features=["res4"])
    model["backbone"]["stages"].update(depth=50, stride_in_1x1=True)
    rpn, heads = model["proposal_generator"], model["roi_heads"]
    rpn["in_features"] = ["res4"]
    rpn["anchor_generator"].update(sizes=[[32, 64, 128, 256, 512]], strides=[16])
    stage = {"num_blocks": 3, "stride_per_block": [2, 1, 1], "in_channels": 1024, "bottleneck_channels": 512}
    block = {"block_class": "detectron2.modeling.backbone.BottleneckBlock", "norm": "FrozenBN", "stride_in_1x1": True}
    predictor, mask = heads["box_predictor"], heads["mask_head"]
    model["roi_heads"] = call(
        "roi_heads.Res5ROIHeads",
        **{name: heads[name] for name in ("num_classes", "batch_size_per_image", "positive_fraction")},
        proposal_matcher=heads["proposal_matcher"],
        in_features=["res4"],
        pooler={**heads["box_pooler"], "output_size": 14, "scales": [1 / 16]},
        res5=call("ResNet.make_stage", out_channels=2048, **stage, **block),
        box_predictor=predictor,
        mask_head={**mask, "conv_dims": [256]},
    )


RES5 = {
    "BACKBONE.NAME": "build_resnet_backbone",
    "RESNETS.OUT_FEATURES": ["res4"],
    "RESNETS.DEPTH": 50,
    "RESNETS.RES2_OUT_CHANNELS": 256,
    "RESNETS.STRIDE_IN_1X1": True,
    "RPN.IN_FEATURES": ["res4"],
    "ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
    "ROI_HEADS.NAME": "Res5ROIHeads",
    "ROI_HEADS.IN_FEATURES": ["res4"],
    "ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
    "ROI_MASK_HEAD.NUM_CONV": 0,
    "ROI_MASK_HEAD.CONV_DIM": 256,
}


def retinanet(model: Tree) -> None:
    backbone = model["backbone"]
    backbone.update(top_block=call("backbone.fpn.LastLevelP6P7", in_channels=512, out_channels="${..out_channels}"))
    backbone["bottom_up"]["out_features"] = ["res3", "res4", "res5"]
    rpn = model.pop("proposal_generator")
    del model["roi_heads"]
    anchors = {"sizes": [[size, 1.5 * size] for size in (32, 64, 128, 256, 512)], "strides": [8, 16, 32, 64, 128]}
    head = {"input_shape": [{"channels": 32}] * 5, "num_anchors": 6, "conv_dims": [32, 32], "norm": "BN"}
    model.update(
        _target_="detectron2.modeling.RetinaNet",
        head=call("meta_arch.retinanet.RetinaNetHead", num_classes="${..num_classes}", prior_prob=0.02, **head),
        anchor_generator={**rpn["anchor_generator"], **anchors},
        box2box_transform=rpn["box2box_transform"],
        anchor_matcher={**rpn["anchor_matcher"], "thresholds": [0.4, 0.5]},
        num_classes=3,
        head_in_features=["p3", "p4", "p5", "p6", "p7"],
        focal_loss_gamma=1.5,
        smooth_l1_beta=0.11,
        box_reg_loss_type="giou",
        max_detections_per_image=7,
    )


RETINANET = {
    "META_ARCHITECTURE": "RetinaNet",
    "BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
    "RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
    "FPN.IN_FEATURES": ["res3", "res4", "res5"],
    "ANCHOR_GENERATOR.SIZES": [[size, 1.5 * size] for size in (32, 64, 128, 256, 512)],
    "RETINANET.NUM_CLASSES": 3,
    "RETINANET.NUM_CONVS": 2,
    "RETINANET.NORM": "BN",
    "RETINANET.PRIOR_PROB": 0.02,
    "RETINANET.FOCAL_LOSS_GAMMA": 1.5,
    "RETINANET.SMOOTH_L1_LOSS_BETA": 0.11,
    "RETINANET.BBOX_REG_LOSS_TYPE": "giou",
}


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        (baseline, BASELINE),
        (losses, LOSSES),
        (faster, FASTER),
        (cascade, CASCADE),
        (keypoint, KEYPOINT),
        (keypoint_by_capacity, BY_CAPACITY),
        (panoptic, PANOPTIC),
        (res5, RES5),
        (retinanet, RETINANET),
    ],
)
def test_variants_mean_what_their_yaml_configs_mean(change: Change, changes: Tree, tmp_path: Path) -> None:
    tree = lazy()
    change(tree["model"])
    assert built(read(tree, tmp_path)) == from_yaml(**changes)


def fcos(model: Tree) -> None:
    retinanet(model)
    for argument in ("anchor_generator", "box2box_transform", "anchor_matcher", "input_format", "box_reg_loss_type"):
        del model[argument]
    del model["head"]["num_anchors"], model["smooth_l1_beta"], model["max_detections_per_image"]
    model["backbone"]["top_block"]["in_feature"] = "p5"
    model["_target_"], model["head"]["_target_"] = (
        f"detectron2.modeling.meta_arch.fcos.{n}" for n in ("FCOS", "FCOSHead")
    )


def test_fcos_has_detectron2s_defaults(tmp_path: Path) -> None:
    tree = lazy()
    fcos(tree["model"])
    model = built(read(tree, tmp_path))
    assert model["neck"]["top"] == "p5"
    assert (model["layers"], model["norm"], model["center_radius"]) == (2, "bn", 1.5)
    assert (model["score_threshold"], model["nms_iou"], model["candidates"]) == (0.2, 0.6, 1000)
    assert model["input"]["channel_order"] == "bgr"


def test_without_a_loader_images_keep_their_size(tmp_path: Path) -> None:
    tree = lazy()
    del tree["dataloader"]
    assert built(read(tree, tmp_path))["input"]["min_size"] == 0


def problems(tree: Tree, folder: Path) -> str:
    config = read(tree, folder)
    ARCHITECTURES[config.take("MODEL.META_ARCHITECTURE")].tree(config)
    config.take("DATASETS.TRAIN")
    return "\n".join(config.problems())


@pytest.mark.parametrize("text", ["configs.common.<lambda>", "<function <lambda> at 0x7f3a5c1d2ef0>"])
def test_a_norm_that_is_a_function_is_the_batch_norm_that_detectron2s_functions_make(text: str, tmp_path: Path) -> None:
    tree = lazy()
    tree["model"]["roi_heads"]["mask_head"]["conv_norm"] = text
    assert built(read(tree, tmp_path))["heads"]["mask"]["norm"] == "sync_bn"


def test_what_has_no_counterpart_is_named(tmp_path: Path) -> None:
    tree = lazy()
    heads = tree["model"]["roi_heads"]
    heads["soft_nms"] = True
    heads["box_pooler"]["scales"] = [0.25, 0.125]
    heads["box_head"]["conv_dims"] = [8, 16]
    heads["mask_head"]["conv_norm"] = "configs.model.my_norm"
    tree["model"]["proposal_generator"]["anchor_generator"]["strides"] = [8, 16, 32, 64, 128]
    tree["extra"] = 1
    message = problems(tree, tmp_path)
    for part in (
        "model.roi_heads.soft_nms (= True) has no counterpart",
        "model.roi_heads.box_pooler.scales is [0.25, 0.125]; only [0.25, 0.125, 0.0625, 0.03125] has a counterpart",
        "model.roi_heads.box_head.conv_dims is [8, 16]; only one value for all has a counterpart",
        "model.roi_heads.mask_head.conv_norm is 'configs.model.my_norm'; only the name of a norm",
        "model.proposal_generator.anchor_generator.strides is [8, 16, 32, 64, 128]; only [4, 8, 16, 32, 64]",
        "extra (= 1) has no counterpart",
    ):
        assert part in message
    assert len(message.splitlines()) == 6


def test_an_unknown_target_is_named_and_never_imported(tmp_path: Path) -> None:
    tree = lazy()
    tree["model"]["backbone"]["bottom_up"]["_target_"] = "os.system"
    with pytest.raises(
        ValueError, match=r"model\.backbone\.bottom_up calls 'os.system'; there is a mapping for .*ResNet"
    ):
        read(tree, tmp_path)


def test_a_missing_argument_is_named(tmp_path: Path) -> None:
    tree = lazy()
    del tree["model"]["proposal_generator"]["positive_fraction"]
    with pytest.raises(ValueError, match=r"has no model\.proposal_generator\.positive_fraction"):
        read(tree, tmp_path)


def test_tags_that_would_run_code_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: {_target_: !!python/object/apply:os.getcwd []}\n")
    with pytest.raises(ValueError, match="is not plain YAML"):
        Detectron2Config.read(tmp_path / "config.yaml")


def test_references_are_followed_from_where_they_are() -> None:
    tree = {"a": {"b": [{"c": "${...d}", "e": "${.c}"}], "d": "${f.g}"}, "f": {"g": 7}, "h": "${..x}", "i": "${env:X}"}
    found = resolved(tree)
    assert found["a"] == {"b": [{"c": 7, "e": 7}], "d": 7}
    assert (found["h"], found["i"]) == ("${..x}", "${env:X}")


def test_short_names_begin_with_the_class() -> None:
    assert short_name("detectron2.modeling.backbone.resnet.ResNet.make_stage") == "ResNet.make_stage"
    assert short_name("detectron2.modeling.FPN") == "FPN"
    assert short_name("acme.FPN") == "acme.FPN"
