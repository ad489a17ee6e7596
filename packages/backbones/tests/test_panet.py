import pytest
import torch

from det_backbones.fpn import FPN
from det_backbones.identity import Identity
from det_backbones.panet import PANet
from detkit.structures.shape import Shape

SHAPES = {"res2": Shape(4, 4), "res3": Shape(8, 8), "res4": Shape(16, 16), "res5": Shape(32, 32)}


def features() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(1, s.channels, 64 // s.stride, 96 // s.stride) for name, s in SHAPES.items()}


@pytest.mark.parametrize("top", ["pool", "p5", "res5", ""])
def test_the_outputs_of_a_pyramid_are_added_up_from_the_finest(top: str) -> None:
    torch.manual_seed(0)
    neck = PANet(input_shapes=SHAPES, channels=8, top=top)
    plain = FPN(input_shapes=SHAPES, channels=8, top=top)
    own = {name: value for name, value in neck.state_dict().items() if not name.startswith(("halve.", "aggregate."))}
    plain.load_state_dict(own)
    maps = features()
    found, pyramid = neck(maps), plain(maps)
    assert list(found) == list(pyramid) == list(neck.output_shapes)
    expected = pyramid["p2"]
    assert torch.equal(found["p2"], expected)
    for level in ("p3", "p4", "p5"):
        halve, aggregate = neck.halve[level], neck.aggregate[level]
        down = torch.conv2d(expected, halve.weight, halve.bias, stride=2, padding=1).relu()
        expected = torch.conv2d(pyramid[level] + down, aggregate.weight, aggregate.bias, padding=1).relu()
        torch.testing.assert_close(found[level], expected)
    if top == "pool":
        torch.testing.assert_close(found["p6"], expected[..., ::2, ::2])
    if top == "p5":
        torch.testing.assert_close(found["p6"], neck.top["p6"](expected))


def test_strides_that_do_not_double_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"PANet needs strides that double .* got \[4, 8, 32\]. Choose maps whose"):
        PANet(input_shapes=SHAPES, in_features=["res2", "res3", "res5"])


def test_the_identity_passes_on_the_maps_that_are_named() -> None:
    maps = features()
    assert Identity(input_shapes=SHAPES)(maps) == maps
    neck = Identity(input_shapes=SHAPES, in_features=["res3", "res5"])
    assert neck.output_shapes == {"res3": SHAPES["res3"], "res5": SHAPES["res5"]}
    assert neck(maps) == {"res3": maps["res3"], "res5": maps["res5"]}
    with pytest.raises(ValueError, match="Identity wants res6; the backbone gives res2, res3, res4, res5"):
        Identity(input_shapes=SHAPES, in_features=["res6"])
