from __future__ import annotations

from typing import Any

import pytest
import torch

from det_heads.rpn import RPN, _inside
from detkit.structures.shape import Shape
from detkit.testing.inputs import image_sizes, random_features, random_targets

SHAPES = {"p3": Shape(16, 8), "p4": Shape(16, 16)}


def make(**options: Any) -> RPN:
    torch.manual_seed(0)
    return RPN(**{"input_shapes": SHAPES, "sizes": [[32], [64]], **options})


def losses(rpn: RPN) -> dict[str, float]:
    found = rpn(random_features(SHAPES, 2), image_sizes(2), random_targets(2))[1]
    return {name: value.item() for name, value in found.items()}


def test_hidden_convolutions_have_the_widths_that_are_asked_for() -> None:
    widths = [(conv.in_channels, conv.out_channels) for conv in make(channels=[None, 8, None, 32]).trunk]
    assert widths == [(16, 16), (16, 8), (8, 8), (8, 32)]


def test_levels_may_have_aspect_ratios_of_their_own() -> None:
    rpn = make(aspect_ratios=[[1.0], [4.0]])
    assert rpn.cell_anchors0.tolist() == [[-16, -16, 16, 16]]
    assert rpn.cell_anchors1.tolist() == [[-16, -64, 16, 64]]


def test_anchors_may_be_given_one_by_one() -> None:
    boxes = [[[-8.0, -8, 8, 8], [-3, -5, 3, 6]], [[-16, -16, 16, 16], [0, 0, 9, 9]]]
    rpn = make(anchor_boxes=boxes)
    assert [rpn.cell_anchors0.tolist(), rpn.cell_anchors1.tolist()] == boxes
    assert rpn.objectness.out_channels == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": [[32]]}, "sizes has 1 levels but there are 2 feature maps"),
        ({"aspect_ratios": [[1.0]]}, "aspect_ratios has 1 levels but there are 2"),
        ({"aspect_ratios": [[1.0], 2.0]}, "mixes numbers and lists"),
        ({"aspect_ratios": [[1.0], [1.0, 2.0]]}, "every level needs as many anchors"),
        ({"anchor_boxes": [[[-8, -8, 8, 8]]]}, "anchor_boxes has 1 lists of .* one list for each map .p3, p4"),
        ({"anchor_boxes": [[[-8, -8, 8, 8]], [[-8, -8, 8]]]}, "all with as many boxes"),
        ({"anchor_boxes": [[[-8, -8, 8, 8]], [[8, -8, -8, 8]]]}, r"has \[8, -8, -8, 8\], which has no area"),
    ],
)
def test_anchors_that_do_not_fit_are_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_anchors_outside_the_image_are_told_apart() -> None:
    anchors = torch.tensor([[0.0, 0, 9, 9], [-1, 0, 9, 9], [5, 5, 12, 10], [0, 0, 40, 9]])
    sizes = torch.tensor([[10, 12], [30, 41]])
    assert _inside(anchors, sizes, 0).tolist() == [[True, False, False, False], [True, False, True, True]]
    assert _inside(anchors, sizes, 1.5).tolist() == [[True, True, True, False], [True, True, True, True]]


def test_anchors_that_reach_out_are_not_trained_on() -> None:
    everywhere = {"batch_size_per_image": 10**6, "foreground_fraction": 1.0}
    all_anchors, inside = losses(make(**everywhere)), losses(make(**everywhere, boundary=0))
    assert 0 < inside["rpn_objectness"] < all_anchors["rpn_objectness"]


def test_the_kind_of_box_loss_changes_that_loss_alone() -> None:
    found = {kind: losses(make(box_loss=kind)) for kind in ("smooth_l1", "giou", "diou", "ciou")}
    assert len({round(values["rpn_box"], 6) for values in found.values()}) == 4
    assert len({values["rpn_objectness"] for values in found.values()}) == 1
