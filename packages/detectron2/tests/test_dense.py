"""Detectron2's dense detectors: every key is used, every array finds its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from det_detectron2 import dense
from det_detectron2.config import Detectron2Config
from det_detectron2.conversion import taken_out
from detkit.config import build
from detkit.detector import Detector
from detkit.foreign import rename
from detkit.structures.categories import Categories

RETINANET = {
    "MODEL.META_ARCHITECTURE": "RetinaNet",
    "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[size, 1.5 * size] for size in (32, 64, 128, 256, 512)],
    "MODEL.RETINANET.NUM_CLASSES": 3,
    "MODEL.RETINANET.NUM_CONVS": 2,
}


def config(**changes: Any) -> Detectron2Config:
    tree = yaml.safe_load((Path(__file__).parent / "mask_rcnn.yaml").read_text())
    for key, value in {**RETINANET, **changes}.items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node[part]
        node[last] = value
    read = Detectron2Config(tree)
    read.take("MODEL.META_ARCHITECTURE")
    return read


def test_every_key_is_used() -> None:
    changes = {
        "MODEL.RETINANET.NORM": "GN",
        "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "giou",
        "MODEL.RETINANET.BBOX_REG_WEIGHTS": [1.0, 1.0, 2.0, 2.0],
        "MODEL.RETINANET.FOCAL_LOSS_ALPHA": 0.3,
        "MODEL.RETINANET.IOU_THRESHOLDS": [0.3, 0.6],
        "MODEL.RETINANET.SCORE_THRESH_TEST": 0.2,
        "MODEL.RETINANET.TOPK_CANDIDATES_TEST": 50,
        "MODEL.RETINANET.NMS_THRESH_TEST": 0.7,
        "MODEL.ANCHOR_GENERATOR.OFFSET": 0.5,
    }
    read = config(**changes)
    tree = dense.retinanet(read)
    assert read.problems() == []
    wanted = {
        "norm": "gn",
        "box_loss": "giou",
        "box_weights": [1.0, 1.0, 2.0, 2.0],
        "focal_alpha": 0.3,
        "background_iou": 0.3,
        "foreground_iou": 0.6,
        "score_threshold": 0.2,
        "candidates": 50,
        "nms_iou": 0.7,
        "offset": 0.5,
        "layers": 2,
        "channels": 32,
        "detections_per_image": 7,
        "smooth_l1_beta": 0.1,
    }
    assert {name: tree[name] for name in wanted} == wanted


def test_aspect_ratios_that_differ_between_levels_are_refused() -> None:
    ratios = [[0.5, 1.0]] * 4 + [[1.0, 2.0]]
    read = config(**{"MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": ratios})
    dense.retinanet(read)
    assert any("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS" in problem for problem in read.problems())


# What follows a convolution, by Detectron2's names: the convolutions of a tower are at 0, 2, ... or 0, 3, ...
AFFINE = ("weight", "bias")
LEVELS = [f"{level}.{leaf}" for level in range(5) for leaf in ("running_mean", "running_var", "num_batches_tracked")]


@pytest.mark.parametrize(("norm", "leaves"), [("", ()), ("GN", AFFINE), ("SyncBN", (*AFFINE, *LEVELS))])
def test_every_array_of_the_head_finds_its_place(norm: str, leaves: tuple[str, ...]) -> None:
    names = [f"head.{last}.{leaf}" for last in ("cls_score", "bbox_pred") for leaf in AFFINE]
    for tower in ("cls_subnet", "bbox_subnet"):
        for conv in (0, 3 if norm else 2):
            names += [f"head.{tower}.{conv}.{leaf}" for leaf in AFFINE]
            names += [f"head.{tower}.{conv + 1}.{leaf}" for leaf in leaves]
    tree = dense.retinanet(config(**{"MODEL.RETINANET.NORM": norm}))
    taken_out(tree, "num_classes")
    model = build(tree, Detector, categories=Categories.numbered(3))
    own = {name for name in model.state_dict() if name.startswith("head.")}
    found, strangers = rename(dict.fromkeys(names, model.normalizer), dense.NAMES, ())
    assert strangers == []
    assert set(found) == own
