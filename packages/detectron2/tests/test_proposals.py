from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from det_detectron2 import proposals, rcnn
from det_detectron2.config import Detectron2Config
from detkit.config import build
from detkit.detector import Detector
from detkit.foreign import rename
from detkit.structures.categories import Categories


def read(**changes: Any) -> Detectron2Config:
    tree = yaml.safe_load((Path(__file__).parent / "mask_rcnn.yaml").read_text())
    for key, value in changes.items():
        node = tree
        *path, last = key.split(".")
        for part in path:
            node = node[part]
        node[last] = value
    return Detectron2Config(tree)


def network(config: Detectron2Config) -> Any:
    tree = rcnn.proposal_network_tree(config)
    assert config.take("DATASETS.TRAIN") is not None
    count = tree.pop("num_classes")
    return build(tree, Detector, categories=Categories.numbered(count))


def test_a_proposal_network_has_a_backbone_and_a_generator_alone() -> None:
    config = read(**{"MODEL.META_ARCHITECTURE": "ProposalNetwork"})
    model = network(config)
    config.take("MODEL.META_ARCHITECTURE")
    assert config.problems() == []
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"backbone", "neck", "proposal_generator"}


def test_options_of_the_rpn_are_followed() -> None:
    changes = {
        "MODEL.RPN.CONV_DIMS": [-1, 24],
        "MODEL.RPN.BBOX_REG_LOSS_TYPE": "giou",
        "MODEL.RPN.BOUNDARY_THRESH": 0,
        "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 2.0,
        "MODEL.RPN.LOSS_WEIGHT": 0.5,
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 3.0]],
    }
    rpn = network(read(**changes)).proposal_generator
    assert [(conv.in_channels, conv.out_channels) for conv in rpn.trunk] == [(32, 32), (32, 24)]
    assert (rpn.box_loss, rpn.boundary) == ("giou", 0)
    assert (rpn.objectness_weight, rpn.box_weight) == (0.5, 1.0)
    assert not torch.equal(rpn.cell_anchors0 / 32, rpn.cell_anchors4 / 512)


def test_a_negative_boundary_trains_on_all_anchors() -> None:
    assert network(read(**{"MODEL.RPN.BOUNDARY_THRESH": -1})).proposal_generator.boundary is None


@pytest.mark.parametrize(("theirs", "ours"), [("conv.weight", "trunk.0.weight"), ("conv.conv1.bias", "trunk.1.bias")])
def test_arrays_of_one_or_several_convolutions_find_their_place(theirs: str, ours: str) -> None:
    name = f"proposal_generator.rpn_head.{theirs}"
    assert rename({name: torch.zeros(1)}, proposals.NAMES, ()) == (
        {f"proposal_generator.{ours}": torch.zeros(1)},
        [],
    )


def test_one_map_with_all_anchors_is_the_rpn_of_c4_models() -> None:
    tree = proposals.proposal_generator(
        read(
            **{
                "MODEL.RPN.IN_FEATURES": ["res4"],
                "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
                "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
            }
        )
    )
    assert tree is not None
    assert (tree["in_features"], tree["sizes"]) == (["res4"], [[32, 64, 128, 256, 512]])


def test_precomputed_proposals_need_no_generator() -> None:
    config = read(**{"MODEL.PROPOSAL_GENERATOR.NAME": "PrecomputedProposals", "MODEL.LOAD_PROPOSALS": True})
    assert rcnn.model_tree(config)["proposal_generator"] is None
    for key in ("DATASETS.TRAIN", "MODEL.META_ARCHITECTURE"):
        config.take(key)
    assert config.problems() == []


def test_proposals_that_nobody_uses_are_a_problem() -> None:
    config = read(**{"MODEL.LOAD_PROPOSALS": True})
    rcnn.model_tree(config)
    assert any("MODEL.LOAD_PROPOSALS is True" in problem for problem in config.problems())
