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


def test_two_convolutions_above_the_pyramid_start_from_the_map_that_is_named() -> None:
    features = {name: torch.randn(1, s.channels, 128 // s.stride, 128 // s.stride) for name, s in SHAPES.items()}
    for top, source in (("res5", features["res5"]), ("p5", None)):
        neck = FPN(input_shapes=SHAPES, in_features=["res3", "res4", "res5"], channels=16, top=top)
        outputs = neck(features)
        assert {name: shape.stride for name, shape in neck.output_shapes.items()} == {
            "p3": 8,
            "p4": 16,
            "p5": 32,
            "p6": 64,
            "p7": 128,
        }
        sixth = neck.top["p6"](outputs["p5"] if source is None else source)
        assert torch.equal(outputs["p6"], sixth)
        assert torch.equal(outputs["p7"], neck.top["p7"](sixth.relu()))
    assert {name for name in neck.state_dict() if "top" in name} == {
        f"top.{level}.{leaf}" for level in ("p6", "p7") for leaf in ("weight", "bias")
    }


def test_the_mean_of_lateral_and_coarser_map_is_carried_down() -> None:
    neck = FPN(input_shapes=SHAPES, channels=16, fuse="avg", top="")
    features = {name: torch.randn(1, s.channels, 128 // s.stride, 128 // s.stride) for name, s in SHAPES.items()}
    merged = None
    for level in ("p5", "p4", "p3", "p2"):
        lateral = neck.lateral[level](features[f"res{level[1]}"])
        merged = lateral if merged is None else (lateral + merged.repeat_interleave(2, 2).repeat_interleave(2, 3)) / 2
        torch.testing.assert_close(neck(features)[level], neck.output[level](merged))


def test_maps_of_odd_sizes_lose_the_last_repeated_row_and_column() -> None:
    neck = FPN(input_shapes=SHAPES, channels=16, top="pool")
    features = {name: torch.randn(1, s.channels, -(-100 // s.stride), -(-75 // s.stride)) for name, s in SHAPES.items()}
    outputs = neck(features)
    assert {name: tuple(each.shape[2:]) for name, each in outputs.items()} == {
        "p2": (25, 19),
        "p3": (13, 10),
        "p4": (7, 5),
        "p5": (4, 3),
        "p6": (2, 2),
    }
    above = neck.lateral["p5"](features["res5"]).repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :7, :5]
    torch.testing.assert_close(outputs["p4"], neck.output["p4"](neck.lateral["p4"](features["res4"]) + above))


def test_convolutions_above_the_pyramid_need_the_coarsest_map() -> None:
    with pytest.raises(ValueError, match=r"top is 'res4'; choose 'pool', '' or a map of stride 32: res5 or p5"):
        FPN(input_shapes=SHAPES, top="res4")


def test_strides_that_do_not_double_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"strides that double .* got \[4, 16\]"):
        FPN(input_shapes={"a": Shape(8, 4), "b": Shape(8, 16)})


def test_a_map_that_the_backbone_does_not_give_is_an_error() -> None:
    with pytest.raises(ValueError, match="FPN wants res6; the backbone gives res2, res3, res4, res5"):
        FPN(input_shapes=SHAPES, in_features=["res6"])
