from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from det_detectron2 import rcnn
from det_detectron2.config import Detectron2Config
from det_heads.rcnn import RCNN
from detkit.config import build
from detkit.detector import Detector
from detkit.structures.categories import Categories

ROTATED = {
    "MODEL.ANCHOR_GENERATOR.NAME": "RotatedAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.ANGLES": [[-90, -30, 30]],
    "MODEL.MASK_ON": False,
    "MODEL.PROPOSAL_GENERATOR.NAME": "RRPN",
    "MODEL.RPN.BBOX_REG_WEIGHTS": [1, 1, 1, 1, 2],
    "MODEL.RPN.BOUNDARY_THRESH": -1,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": [10, 10, 5, 5, 1],
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignRotated",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_HEADS.NAME": "RROIHeads",
}


def read(**changes: Any) -> Detectron2Config:
    tree = yaml.safe_load((Path(__file__).parent / "mask_rcnn.yaml").read_text())
    for key, value in (ROTATED | changes).items():
        node = tree
        *path, last = key.split(".")
        for part in path:
            node = node[part]
        node[last] = value
    return Detectron2Config(tree)


def test_every_option_of_a_rotated_model_is_followed() -> None:
    config = read(**{"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True})
    config.take("DATASETS.TRAIN")
    config.take("MODEL.META_ARCHITECTURE")
    tree = rcnn.model_tree(config)
    assert config.problems() == []
    classes = tree["heads"]["box"].pop("num_classes")
    model = build(tree, Detector, categories=Categories.numbered(classes))
    assert isinstance(model, RCNN)
    assert model.rotated
    rpn, box = model.proposal_generator, model.heads["box"]
    assert rpn.cell_anchors0.shape == (9, 5)  # three ratios, three angles
    assert rpn.cell_anchors0[:3, 4].tolist() == [-90, -30, 30]
    assert rpn.deltas.out_channels == 9 * 5
    assert rpn.box_weights == (1, 1, 1, 1, 2)
    assert box.box_weights == (10, 10, 5, 5, 1)
    assert box.predictor.deltas.out_features == 5
    assert box.pool.sampling_ratio == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.MASK_ON", True),
        ("MODEL.RPN.BOUNDARY_THRESH", 0),
        ("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignV2"),
        ("MODEL.RPN.BBOX_REG_LOSS_TYPE", "giou"),
        ("MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator"),
        ("MODEL.ANCHOR_GENERATOR.ANGLES", [[-90, 0], [0, 90]]),
    ],
)
def test_what_detectron2_refuses_or_we_lack_is_a_problem(key: str, value: Any) -> None:
    config = read(**{key: value})
    rcnn.model_tree(config)
    assert any(problem.startswith(key) for problem in config.problems())
