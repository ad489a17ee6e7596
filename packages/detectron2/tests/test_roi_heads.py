"""Configs of Detectron2's core zoo that differ in the heads: what is built, and that every array finds its place."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from det_detectron2.architectures import ARCHITECTURES
from det_detectron2.config import Detectron2Config
from detkit.config import build
from detkit.detector import Detector
from detkit.foreign import rename
from detkit.structures.categories import Categories

BOX, MASK, KEYPOINT = "MODEL.ROI_BOX_HEAD", "MODEL.ROI_MASK_HEAD", "MODEL.ROI_KEYPOINT_HEAD"
CASCADE = {"MODEL.ROI_HEADS.NAME": "CascadeROIHeads", f"{BOX}.CLS_AGNOSTIC_BBOX_REG": True}
PERSONS = {
    "MODEL.KEYPOINT_ON": True,
    "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    f"{KEYPOINT}.NUM_KEYPOINTS": 5,
    f"{KEYPOINT}.CONV_DIMS": [8, 16],
}
ARCHITECTURE = ARCHITECTURES["GeneralizedRCNN"]


def read(**changes: Any) -> Detectron2Config:
    """The config of a Mask R-CNN with small heads; `changes` by dotted key."""
    tree = yaml.safe_load((Path(__file__).parent / "mask_rcnn.yaml").read_text())
    for key, value in changes.items():
        node = tree
        *path, last = key.split(".")
        for part in path:
            node = node[part]
        node[last] = value
    config = Detectron2Config(tree)
    for key in ("MODEL.META_ARCHITECTURE", "DATASETS.TRAIN"):
        config.take(key)
    return config


def heads(**changes: Any) -> dict[str, Any]:
    """The mappings of the heads."""
    config = read(**changes)
    tree = ARCHITECTURE.tree(config)
    assert config.problems() == []
    found: dict[str, Any] = tree["heads"]
    return found


def model(**changes: Any) -> Detector:
    tree = ARCHITECTURE.tree(read(**changes))
    classes = {head.pop("num_classes") for head in tree["heads"].values()}
    with torch.device("meta"):
        built = build(tree, Detector, categories=Categories.numbered(*classes))
    assert isinstance(built, Detector)
    return built


def assert_fits(built: Detector, shapes: dict[str, tuple[int, ...]]) -> None:
    """Assert that these of Detectron2's arrays below `roi_heads` are, renamed, those of the model's heads."""
    arrays = {f"roi_heads.{name}": torch.zeros(shape, device="meta") for name, shape in shapes.items()}
    renamed, strangers = rename(arrays, ARCHITECTURE.names, ())
    assert strangers == []
    own = {name: value.shape for name, value in built.state_dict().items() if name.startswith("heads.")}
    assert {name: value.shape for name, value in renamed.items()} == own


def layer(name: str, *shape: int, outputs: int | None = None) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": (outputs or shape[0],)}


def normed(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.norm.weight": shape[:1], f"{name}.norm.bias": shape[:1]}


MASK_SHAPES = {
    **layer("mask_head.mask_fcn1", 16, 32, 3, 3),
    **layer("mask_head.mask_fcn2", 16, 16, 3, 3),
    **layer("mask_head.deconv", 16, 16, 2, 2),
    **layer("mask_head.predictor", 3, 16, 1, 1),
}


def test_convolutions_with_group_norm() -> None:
    changes = {
        f"{BOX}.NORM": "GN",
        f"{BOX}.NUM_CONV": 2,
        f"{BOX}.CONV_DIM": 8,
        f"{BOX}.NUM_FC": 1,
        f"{MASK}.NORM": "GN",
    }
    found = heads(**changes)
    assert {name: found["box"][name] for name in ("convs", "conv_channels", "norm", "layers")} == {
        "convs": 2,
        "conv_channels": 8,
        "norm": "gn",
        "layers": 1,
    }
    assert found["mask"]["norm"] == "gn"
    assert_fits(
        model(**changes),
        {
            **normed("box_head.conv1", 8, 32, 3, 3),
            **normed("box_head.conv2", 8, 8, 3, 3),
            **layer("box_head.fc1", 16, 8 * 49),
            **layer("box_predictor.cls_score", 4, 16),
            **layer("box_predictor.bbox_pred", 12, 16),
            **normed("mask_head.mask_fcn1", 16, 32, 3, 3),
            **normed("mask_head.mask_fcn2", 16, 16, 3, 3),
            **layer("mask_head.deconv", 16, 16, 2, 2),
            **layer("mask_head.predictor", 3, 16, 1, 1),
        },
    )


@pytest.mark.parametrize("norm", ["BN", "SyncBN", "GN"])
def test_a_cascade(norm: str) -> None:
    changes = {**CASCADE, f"{BOX}.NUM_CONV": 1, f"{BOX}.CONV_DIM": 8, f"{BOX}.NUM_FC": 1, f"{BOX}.NORM": norm}
    box = heads(**changes)["box"]
    assert (box["name"], box["ious"]) == ("cascade", [0.6, 0.7])
    assert box["box_weights"] == [[10, 10, 5, 5], [20, 20, 10, 10], [30, 30, 15, 15]]
    shapes = dict(MASK_SHAPES)
    for stage in range(3):
        shapes |= normed(f"box_head.{stage}.conv1", 8, 32, 3, 3)
        shapes |= layer(f"box_head.{stage}.fc1", 16, 8 * 49)
        shapes |= layer(f"box_predictor.{stage}.cls_score", 4, 16)
        shapes |= layer(f"box_predictor.{stage}.bbox_pred", 4, 16)
        if norm != "GN":
            statistics = {"running_mean": (8,), "running_var": (8,), "num_batches_tracked": ()}
            shapes |= {f"box_head.{stage}.conv1.norm.{name}": shape for name, shape in statistics.items()}
    assert_fits(model(**changes), shapes)


def test_a_cascade_needs_one_box_for_all_classes_and_one_threshold_to_start_with() -> None:
    config = read(
        **{**CASCADE, f"{BOX}.CLS_AGNOSTIC_BBOX_REG": False, "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": [0.4, 0.6, 0.7]}
    )
    ARCHITECTURE.tree(config)
    assert config.problems() == [
        f"{BOX}.CLS_AGNOSTIC_BBOX_REG is False; only True has a counterpart",
        "MODEL.ROI_HEADS.IOU_THRESHOLDS is [0.5]; only [0.4] has a counterpart",
    ]


@pytest.mark.parametrize("mask", [True, False])
def test_keypoints(mask: bool) -> None:
    changes = {**PERSONS, "MODEL.MASK_ON": mask, f"{KEYPOINT}.LOSS_WEIGHT": 0.25, f"{KEYPOINT}.POOLER_RESOLUTION": 7}
    found = heads(**changes)
    assert list(found) == ["box", *["mask"] * mask, "keypoint"]
    assert found["keypoint"] == {
        "name": "keypoint",
        "num_classes": 1,
        "num_keypoints": 5,
        "in_features": ["p2", "p3", "p4", "p5"],
        "pool_size": 7,
        "sampling_ratio": 0,
        "aligned": True,
        "channels": [8, 16],
        "keypoints_per_image": None,
        "weight": 0.25,
    }
    assert_fits(
        model(**changes),
        {
            **layer("box_head.fc1", 16, 32 * 49),
            **layer("box_head.fc2", 16, 16),
            **layer("box_predictor.cls_score", 2, 16),
            **layer("box_predictor.bbox_pred", 4, 16),
            **({**MASK_SHAPES, **layer("mask_head.predictor", 1, 16, 1, 1)} if mask else {}),
            **layer("keypoint_head.conv_fcn1", 8, 32, 3, 3),
            **layer("keypoint_head.conv_fcn2", 16, 8, 3, 3),
            **layer("keypoint_head.score_lowres", 16, 5, 4, 4, outputs=5),
        },
    )


def test_a_keypoint_loss_divided_by_a_constant() -> None:
    """Detectron2 divides by the images, the keypoints, and the most regions with an object that an image can have."""
    changes = {
        f"{KEYPOINT}.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": False,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
        "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
    }
    assert heads(**PERSONS, **changes)["keypoint"]["keypoints_per_image"] == 5 * 128


@pytest.mark.parametrize("loss", ["smooth_l1", "giou", "diou", "ciou"])
def test_losses_of_boxes(loss: str) -> None:
    changes = {f"{BOX}.BBOX_REG_LOSS_TYPE": loss, f"{BOX}.BBOX_REG_LOSS_WEIGHT": 2.0, f"{BOX}.SMOOTH_L1_BETA": 0.5}
    box = heads(**changes)["box"]
    assert (box["box_loss"], box["box_weight"], box["smooth_l1_beta"]) == (loss, 2.0, 0.5)


def test_class_agnostic_boxes_and_masks() -> None:
    changes = {f"{BOX}.CLS_AGNOSTIC_BBOX_REG": True, f"{MASK}.CLS_AGNOSTIC_MASK": True}
    assert_fits(
        model(**changes),
        {
            **layer("box_head.fc1", 16, 32 * 49),
            **layer("box_head.fc2", 16, 16),
            **layer("box_predictor.cls_score", 4, 16),
            **layer("box_predictor.bbox_pred", 4, 16),
            **MASK_SHAPES,
            **layer("mask_head.predictor", 1, 16, 1, 1),
        },
    )


def test_sigmoids_and_the_federated_loss() -> None:
    assert heads()["box"]["class_loss"] == "softmax"
    assert heads()["box"]["federated"] is None
    box = heads(**{f"{BOX}.USE_SIGMOID_CE": True})["box"]
    assert (box["class_loss"], box["federated"]) == ("sigmoid", None)
    changes = {
        "USE_SIGMOID_CE": True,
        "USE_FED_LOSS": True,
        "FED_LOSS_NUM_CLASSES": 7,
        "FED_LOSS_FREQ_WEIGHT_POWER": 1.0,
    }
    box = heads(**{f"{BOX}.{key}": value for key, value in changes.items()})["box"]
    assert box["federated"] == {"classes": 7, "power": 1.0}


def test_heads_that_follow_may_train_on_predicted_boxes() -> None:
    assert heads(**{f"{BOX}.TRAIN_ON_PRED_BOXES": True})["box"]["train_on_predicted"]
    assert "train_on_predicted" not in heads(**CASCADE)["box"]


def test_detectrons_pooling() -> None:
    changes = {f"{head}.POOLER_TYPE": "ROIAlign" for head in (BOX, MASK, KEYPOINT)}
    changes |= {f"{head}.POOLER_SAMPLING_RATIO": 2 for head in (BOX, MASK, KEYPOINT)}
    found = heads(**PERSONS, **changes)
    assert {(head["aligned"], head["sampling_ratio"]) for head in found.values()} == {(False, 2)}
