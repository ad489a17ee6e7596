"""Detectron2's configs of PointRend and PointSup: all keys and arrays have a counterpart, and recipes say the same."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from det_detectron2.architectures import architecture
from det_detectron2.config import Detectron2Config
from det_detectron2.conversion import taken_out
from det_detectron2.testing import MappingContract, Model, converted
from det_pointrend.detectron2 import IMPLICIT_HEAD
from detkit.config import Config
from detkit.config.check import Checker
from detkit.detector import Detector

FILE = yaml.safe_load((Path(__file__).parent / "detectron2_configs.yaml").read_text())
CONFIGS: dict[str, dict[str, Any]] = FILE["configs"]
RECIPES = {path: entry["recipe"] for path, entry in CONFIGS.items() if entry["recipe"]}
R50 = "PointRend/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco"
IMPLICIT = "PointRend/InstanceSegmentation/implicit_pointrend_R_50_FPN_1x_coco"
PIXELS = "PointRend/SemanticSegmentation/pointrend_semantic_R_101_FPN_1x_cityscapes"
Shapes = dict[str, tuple[int, ...]]


def config(path: str, **changes: Any) -> dict[str, Any]:
    """The whole config, as Detectron2 dumps it."""
    tree: dict[str, Any] = copy.deepcopy(FILE["defaults"])
    for key, value in {**CONFIGS[path], **changes}.items():
        if key == "recipe":
            continue
        *sections, last = key.split(".")
        node = tree
        for section in sections:
            node = node[section]
        node[last] = value
    return tree


def layer(name: str, *weight: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": weight, **({f"{name}.bias": weight[:1]} if bias else {})}


def conv(name: str, *weight: int, norm: str = "FrozenBN") -> Shapes:
    """A convolution without bias, and the norm after it."""
    leaves = ("weight", "bias", "running_mean", "running_var") if norm == "FrozenBN" else ("weight", "bias")
    return {f"{name}.weight": weight, **{f"{name}.norm.{leaf}": weight[:1] for leaf in leaves}}


def backbone(model: dict[str, Any]) -> Shapes:
    """Of a ResNet with FPN."""
    resnet = model["RESNETS"]
    groups, width = resnet["NUM_GROUPS"], resnet["WIDTH_PER_GROUP"]
    shapes, inputs = conv("backbone.bottom_up.stem.conv1", 64, 3, 7, 7), 64
    for stage, blocks in enumerate((3, 4, {50: 6, 101: 23}[resnet["DEPTH"]], 3), 2):
        middle, outputs = groups * width * 2 ** (stage - 2), 256 * 2 ** (stage - 2)
        for block in range(blocks):
            name = f"backbone.bottom_up.res{stage}.{block}"
            shapes |= conv(f"{name}.shortcut", outputs, inputs, 1, 1) if block == 0 else {}
            shapes |= conv(f"{name}.conv1", middle, inputs, 1, 1)
            shapes |= conv(f"{name}.conv2", middle, middle // groups, 3, 3)
            shapes |= conv(f"{name}.conv3", outputs, middle, 1, 1)
            inputs = outputs
        shapes |= layer(f"backbone.fpn_lateral{stage}", 256, outputs, 1, 1)
        shapes |= layer(f"backbone.fpn_output{stage}", 256, 256, 3, 3)
    return shapes


def region_network(name: str, outputs: int, fc: str = "fc") -> Shapes:
    return {
        **layer(f"{name}.reduce_spatial_dim_conv", 256, 256, 2, 2),
        **layer(f"{name}.{fc}1", 1024, 256 * 7 * 7),
        **layer(f"{name}.{fc}2", 1024, 1024),
        **layer(f"{name}.prediction", outputs, 1024),
    }


def point_network(name: str, classes: int) -> Shapes:
    hidden = [layer(f"{name}.fc{number}", 256, 256 + classes, 1) for number in (1, 2, 3)]
    return {**hidden[0], **hidden[1], **hidden[2], **layer(f"{name}.predictor", classes, 256 + classes, 1)}


def mask_head(model: dict[str, Any], classes: int) -> Shapes:
    name, point = model["ROI_MASK_HEAD"]["NAME"], model["POINT_HEAD"]
    if name == "PointRendMaskHead":
        return {
            **region_network("roi_heads.mask_head.coarse_head", classes * 7 * 7),
            **point_network("roi_heads.mask_head.point_head", classes),
        }
    if name == "CoarseMaskHead":  # as of 2020
        return {
            **region_network("roi_heads.mask_coarse_head", classes * 7 * 7, "coarse_mask_fc"),
            **point_network("roi_heads.mask_point_head", classes),
        }
    if name.startswith("Implicit"):
        logits = 1 if point["CLS_AGNOSTIC_MASK"] else classes
        inputs = 256 * (
            model["IMPLICIT_POINTREND"]["POS_ENC_ENABLED"] + model["IMPLICIT_POINTREND"]["IMAGE_FEATURE_ENABLED"]
        )
        parameters = (inputs + 1) * 256 + 2 * (256 + 1) * 256 + (256 + 1) * logits
        encoding: Shapes = {"roi_heads.mask_head.point_head.positional_encoding_gaussian_matrix": (2, 128)}
        return {
            **(encoding if model["IMPLICIT_POINTREND"]["POS_ENC_ENABLED"] else {}),
            **region_network("roi_heads.mask_head.parameter_head", parameters),
        }
    convs: Shapes = {}
    for number in range(1, 5):
        convs |= layer(f"roi_heads.mask_head.mask_fcn{number}", 256, 256, 3, 3)
    return {
        **convs,
        **layer("roi_heads.mask_head.deconv", 256, 256, 2, 2),
        **layer("roi_heads.mask_head.predictor", classes, 256, 1, 1),
    }


def semantic_head(classes: int) -> Shapes:
    name, shapes = "sem_seg_head.coarse_sem_seg_head", point_network("sem_seg_head.point_head", classes)
    for level, count in (("p2", 1), ("p3", 1), ("p4", 2), ("p5", 3)):
        for position in range(count):
            shapes |= conv(f"{name}.{level}.{2 * position}", 128, 128 if position else 256, 3, 3, norm="GN")
    return shapes | layer(f"{name}.predictor", classes, 128, 1, 1)


def model(path: str, **changes: Any) -> Model:
    tree = config(path, **changes)
    parts = tree["MODEL"]
    if parts["META_ARCHITECTURE"] == "SemanticSegmentor":
        return Model(tree, backbone(parts) | semantic_head(parts["SEM_SEG_HEAD"]["NUM_CLASSES"]))
    classes = parts["ROI_HEADS"]["NUM_CLASSES"]
    return Model(
        tree,
        {
            **backbone(parts),
            **layer("proposal_generator.rpn_head.conv", 256, 256, 3, 3),
            **layer("proposal_generator.rpn_head.objectness_logits", 3, 256, 1, 1),
            **layer("proposal_generator.rpn_head.anchor_deltas", 12, 256, 1, 1),
            **{f"proposal_generator.anchor_generator.cell_anchors.{level}": (3, 4) for level in range(5)},
            **layer("roi_heads.box_head.fc1", 1024, 256 * 7 * 7),
            **layer("roi_heads.box_head.fc2", 1024, 1024),
            **layer("roi_heads.box_predictor.cls_score", classes + 1, 1024),
            **layer("roi_heads.box_predictor.bbox_pred", 4 * classes, 1024),
            **mask_head(parts, classes),
        },
    )


OLD = {
    "MODEL.ROI_HEADS.NAME": "PointRendROIHeads",
    "MODEL.ROI_MASK_HEAD.NAME": "CoarseMaskHead",
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlignV2",
}


class TestMappings(MappingContract):
    distribution = "det-pointrend"

    def models(self) -> Iterator[Model]:
        yield from (model(path) for path in CONFIGS)
        yield model(R50, **OLD)


@pytest.mark.parametrize(
    "changes",
    [
        {"MODEL.POINT_HEAD.CLS_AGNOSTIC_MASK": True},
        {"MODEL.IMPLICIT_POINTREND.POS_ENC_ENABLED": False},
        {"MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED": False},
    ],
)
def test_implicit_heads_of_all_kinds_are_converted(changes: dict[str, Any]) -> None:
    converted(model(IMPLICIT, **changes))


def test_predicted_parameters_are_split_where_detectron2_splits_them() -> None:
    """All weights, then all biases; the last layer's are apart here."""
    own = {
        f"heads.mask.network.{part}.{leaf}": torch.zeros(rows, 3) if leaf == "weight" else torch.zeros(rows)
        for part, rows in (("hidden_weight", 6), ("hidden_bias", 4), ("last_weight", 2), ("last_bias", 1))
        for leaf in ("weight", "bias")
    }
    state = {
        "heads.mask.network.all.weight": torch.arange(39.0).view(13, 3),
        "heads.mask.network.all.bias": torch.arange(13.0),
    }
    assert IMPLICIT_HEAD.fit is not None
    found = IMPLICIT_HEAD.fit(state, own)
    assert {name: value.shape for name, value in found.items()} == {name: value.shape for name, value in own.items()}
    assert found["heads.mask.network.last_weight.bias"].tolist() == [6, 7]
    assert found["heads.mask.network.hidden_bias.bias"].tolist() == [8, 9, 10, 11]
    assert found["heads.mask.network.last_bias.weight"].tolist() == [[36, 37, 38]]


def test_a_prediction_of_another_size_is_named() -> None:
    wrong = model(IMPLICIT)
    wrong.arrays["roi_heads.mask_head.parameter_head.prediction.bias"] = (99,)  # type: ignore[index]
    with pytest.raises(ValueError, match=r"hidden_weight\.bias"):
        converted(wrong)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.ROI_MASK_HEAD.POOLER_TYPE", "ROIAlignV2"),
        ("MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", False),
        ("MODEL.POINT_HEAD.NAME", "HeadOfNobody"),
        ("MODEL.POINT_HEAD.NUM_CLASSES", 7),
    ],
)
def test_what_has_no_counterpart_is_named(key: str, value: Any) -> None:
    given = Detectron2Config(config(R50, **{key: value}))
    architecture("GeneralizedRCNN").tree(given)
    assert any(f"{key} is {value!r}" in problem for problem in given.problems())


def test_keys_of_the_projects_mean_nothing_to_other_models() -> None:
    """A Mask R-CNN that was trained by a script of PointRend has them."""
    tree = copy.deepcopy(FILE["defaults"])
    given = Detectron2Config(tree)
    given.take("MODEL.META_ARCHITECTURE")
    architecture("GeneralizedRCNN").tree(given)
    left = [problem for problem in given.problems() if "POINT" in problem or "ROI_MASK_HEAD" in problem]
    assert left == []


def resolved(tree: dict[str, Any]) -> dict[str, Any]:
    """A model's tree with all defaults, in which nothing is left to follow from something else."""
    checker = Checker()
    found: dict[str, Any] = checker.value(tree, Detector, "model")
    assert checker.problems == []
    width = found["backbone"]["width"]
    found["backbone"] |= {"width_per_group": found["backbone"]["width_per_group"] or width}
    found["backbone"] |= {"stem_channels": found["backbone"]["stem_channels"] or width}
    found["input"]["divisor"] = math.lcm(found["input"]["divisor"], 32)
    found["neck"]["in_features"] = found["neck"]["in_features"] or found["backbone"]["out_features"]
    for part in (found.get("proposal_generator"), found.get("semantic_head", {})):
        if part and "in_features" in part:
            part["in_features"] = part["in_features"] or ["p2", "p3", "p4", "p5", "p6"]
    return found


@pytest.mark.parametrize("path", RECIPES)
def test_the_recipe_is_of_the_same_model(path: str) -> None:
    given = Detectron2Config(config(path))
    theirs = architecture(given.take("MODEL.META_ARCHITECTURE")).tree(given)
    assert given.problems() == []
    taken_out(theirs, "num_classes")
    taken_out(theirs, "num_semantic_classes")
    assert resolved(Config.load(RECIPES[path]).tree["model"]) == resolved(theirs)


@pytest.mark.parametrize("path", RECIPES)
def test_the_recipe_is_trained_alike(path: str) -> None:
    given, ours = config(path), Config.load(RECIPES[path]).tree
    solver, train = given["SOLVER"], ours["train"]
    assert (train["steps"], train["batch_size"]) == (solver["MAX_ITER"], solver["IMS_PER_BATCH"])
    assert train["optimizer"]["lr"] * train["batch_size"] / train["lr_batch_size"] == pytest.approx(solver["BASE_LR"])
    assert [round(mark * train["steps"]) for mark in train["schedule"]["milestones"]] == solver["STEPS"]
    weights = {"R-50": "resnet50-msra", "R-101": "resnet101-msra", "X-101-32x8d": "resnext101-32x8d-fair"}
    assert ours["init"] == weights[Path(given["MODEL"]["WEIGHTS"]).stem]


@pytest.mark.parametrize("path", RECIPES)
def test_images_are_augmented_alike(path: str) -> None:
    given = config(path)["INPUT"]
    steps = {step["name"]: step for step in Config.load(RECIPES[path]).tree["transforms"]}
    resize = steps.pop("resize_shortest_edge")
    assert (resize["sizes"], resize["max_size"]) == (given["MIN_SIZE_TRAIN"], given["MAX_SIZE_TRAIN"])
    assert resize["draw"] == given["MIN_SIZE_TRAIN_SAMPLING"]
    assert steps.pop("flip")["horizontal"] == 0.5
    if given["CROP"]["ENABLED"]:
        crop = steps.pop("random_crop")
        assert (crop["crop_size"], crop["crop_type"]) == (given["CROP"]["SIZE"], given["CROP"]["TYPE"])
        assert crop["single_category_max_area"] == given["CROP"]["SINGLE_CATEGORY_MAX_AREA"]
    if given["SAMPLE_POINTS"]:
        assert steps.pop("sample_points")["count"] == given["SAMPLE_POINTS"]
    assert bool(steps) == given["COLOR_AUG_SSD"]
