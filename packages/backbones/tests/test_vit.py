from itertools import pairwise

import pytest
import torch
from torch import Tensor

from det_backbones.simple_fpn import SimpleFPN
from det_backbones.vit import ViT
from detkit.layers import Conv
from detkit.structures.shape import Shape

TINY = {"embed_dim": 16, "depth": 4, "num_heads": 2, "window": 2, "image_size": 64, "pretrain_size": 64}


def tiny(**arguments: object) -> ViT:
    torch.manual_seed(0)
    model = ViT(**{**TINY, **arguments})  # type: ignore[arg-type]
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    return model.eval()


@torch.no_grad()
def change(model: ViT, size: int = 128) -> Tensor:
    """Which tokens (rows, columns) another first patch changes."""
    torch.manual_seed(1)
    x = torch.randn(1, 3, size, size)
    y = x.clone()
    y[:, :, :16, :16] += 1
    difference: Tensor = (model(x)["last_feat"] - model(y)["last_feat"]).abs().amax(1)[0]
    return difference > 1e-6


@pytest.mark.parametrize(
    ("depth", "blocks"), [(12, [2, 5, 8, 11]), (24, [5, 11, 17, 23]), (32, [7, 15, 23, 31]), (2, [0, 1])]
)
def test_the_last_block_of_each_quarter_sees_everything(depth: int, blocks: list[int]) -> None:
    with torch.device("meta"):
        model = ViT(depth=depth, embed_dim=16, num_heads=2)
    assert [number for number, block in enumerate(model.blocks) if block.window == 0] == blocks


def test_attention_stays_in_windows_but_for_global_blocks() -> None:
    local = change(tiny(depth=1, global_blocks=[]))
    assert local[:2, :2].all()
    assert local.sum() == 4
    assert change(tiny(depth=1, global_blocks=[0])).all()
    assert change(tiny(depth=1, window=0)).all()


def test_convolutions_let_windows_see_their_neighbours() -> None:
    found = change(tiny(depth=1, global_blocks=[], residual_blocks=[0]))
    assert found[:3, :3].all()
    assert found.sum() == 9


def test_convolutions_begin_as_the_identity() -> None:
    torch.manual_seed(0)
    model = ViT(**TINY, residual_blocks=[1]).eval()  # type: ignore[arg-type]
    x = torch.randn(1, 16, 3, 3)
    assert torch.equal(model.blocks[1].residual(x), x)  # type: ignore[operator]


def test_padding_of_windows_does_not_depend_on_the_images_size() -> None:
    """The windows at the border are filled up with zeros, whatever the map."""
    model = tiny(depth=1, global_blocks=[], absolute_positions=False)
    x = torch.randn(1, 3, 48, 80)
    with torch.no_grad():
        whole, part = model(x)["last_feat"], model(x[..., :64])["last_feat"]
    torch.testing.assert_close(whole[..., :4], part)


def test_positions_are_resized_to_the_map() -> None:
    model = tiny(depth=0, global_blocks=[])
    assert model.pos_embed is not None
    model.pos_embed.data = torch.arange(4.0)[None, None, :, None].expand(1, 4, 4, 16).clone()
    with torch.no_grad():
        zeros = model(torch.zeros(1, 3, 128, 64))["last_feat"] - model.patch_embed.proj.bias[:, None, None]
    torch.testing.assert_close(zeros[0, 0], torch.arange(4.0).expand(8, 4))


def test_layers_are_the_embeddings_and_each_block_but_its_convolutions() -> None:
    model = tiny(residual_blocks=[1])
    layers = [
        {name for name, _ in model.named_parameters() if any(f"{name}.".startswith(f"{each}.") for each in layer)}
        for layer in model.layer_prefixes()
    ]
    assert len(layers) == 5
    assert layers[0] == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    left = {name for name, _ in model.named_parameters()} - set().union(*layers)
    assert {name.rpartition(".residual.")[0] for name in left} == {"blocks.1"}
    assert model.positions() == ("pos_embed",)


SOURCE = {"last_feat": Shape(16, 16)}


def test_the_pyramid_is_of_one_map() -> None:
    neck = SimpleFPN(input_shapes=SOURCE, channels=8).eval()
    assert neck.output_shapes == {f"p{level}": Shape(8, 2**level) for level in range(2, 7)}
    assert neck.divisor == 32
    with torch.no_grad():
        maps = neck({"last_feat": torch.randn(1, 16, 4, 6)})
    assert [tuple(each.shape[2:]) for each in maps.values()] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    assert torch.equal(maps["p6"], maps["p5"][:, :, ::2, ::2])


def test_levels_get_their_size_before_their_width() -> None:
    kinds = {
        name: [type(layer).__name__ for layer in level]
        for name, level in SimpleFPN(input_shapes=SOURCE).levels.items()  # type: ignore[attr-defined]
    }
    convs = ["Conv", "Conv"]
    assert kinds == {
        "p2": ["ConvTranspose2d", "LayerNorm2d", "GELU", "ConvTranspose2d", *convs],
        "p3": ["ConvTranspose2d", *convs],
        "p4": convs,
        "p5": ["MaxPool2d", *convs],
    }


def test_without_a_norm_convolutions_have_biases() -> None:
    neck = SimpleFPN(input_shapes=SOURCE, norm="", top="")
    assert list(neck.output_shapes) == ["p2", "p3", "p4", "p5"]
    assert all(conv.bias is not None for conv in neck.modules() if isinstance(conv, Conv))
    strides = [shape.stride for shape in neck.output_shapes.values()]
    assert all(b == 2 * a for a, b in pairwise(strides))


@pytest.mark.parametrize(
    ("shapes", "arguments", "message"),
    [
        (SOURCE, {"in_feature": "res4"}, "SimpleFPN wants res4; the backbone gives last_feat"),
        ({"a": Shape(8, 8), "b": Shape(8, 16)}, {}, "choose in_feature from a, b"),
        (SOURCE, {"scales": [4, 1]}, r"scales is \[4, 1\]; one or more of 4, 2, 1, 0.5 in this order"),
        (SOURCE, {"scales": []}, "one or more of"),
        ({"a": Shape(8, 14)}, {}, "from a map of stride 14; powers of 2 are needed"),
        ({"a": Shape(8, 2)}, {}, "from a map of stride 2; powers of 2"),
    ],
)
def test_maps_that_make_no_pyramid_are_explained(shapes: dict, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimpleFPN(input_shapes=shapes, **arguments)
