import pytest
import torch

from det_backbones.fpn import FPN
from detkit.structures.shape import Shape

SHAPES = {"res2": Shape(8, 4), "res3": Shape(16, 8), "res4": Shape(24, 16), "res5": Shape(32, 32)}


def test_levels_are_named_after_their_stride_and_the_last_is_subsampled() -> None:
    neck = FPN(input_shapes=SHAPES, channels=16)
    outputs = neck({name: torch.randn(1, s.channels, 128 // s.stride, 128 // s.stride) for name, s in SHAPES.items()})
    assert list(outputs) == ["p2", "p3", "p4", "p5", "p6"]
    assert torch.equal(outputs["p6"], outputs["p5"][:, :, ::2, ::2])


def test_coarse_maps_reach_fine_levels() -> None:
    neck = FPN(input_shapes=SHAPES, channels=16)
    features = {name: torch.randn(1, s.channels, 128 // s.stride, 128 // s.stride) for name, s in SHAPES.items()}
    before = neck(features)["p2"]
    features["res5"] = features["res5"] + 1
    assert not torch.equal(neck(features)["p2"], before)


def test_strides_that_do_not_double_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"strides that double .* got \[4, 16\]"):
        FPN(input_shapes={"a": Shape(8, 4), "b": Shape(8, 16)})


def test_a_map_that_the_backbone_does_not_give_is_an_error() -> None:
    with pytest.raises(ValueError, match="FPN wants res6; the backbone gives res2, res3, res4, res5"):
        FPN(input_shapes=SHAPES, in_features=["res6"])
