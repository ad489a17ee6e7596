import timm.models.swin_transformer as timm_swin
import torch
import torchvision
from torch import Tensor, nn

from det_backbones.swin import SwinTransformer, relative_index, shift_mask
from det_backbones.weights import swin as pretrained

TINY = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4)}


def normalised(x: Tensor) -> Tensor:
    return nn.functional.layer_norm(x, x.shape[-1:]).permute(0, 3, 1, 2)


def test_torchvisions_weights_give_torchvisions_features(randomised, begun) -> None:
    theirs = randomised(
        torchvision.models.SwinTransformer([4, 4], 16, [2, 2, 2, 2], [1, 2, 2, 4], window_size=[3, 3], num_classes=2)
    )
    ours = begun(SwinTransformer(**TINY, window=3), pretrained.from_torchvision(theirs.state_dict()))
    x = torch.randn(2, 3, 160, 128)  # maps of 40 x 32 to 5 x 4, none a multiple of 3 all the way
    with torch.no_grad():
        found, y = ours(x), x
        for number, layer in enumerate(theirs.features):
            y = layer(y)
            if number % 2:
                torch.testing.assert_close(found[f"p{number // 2}"], normalised(y), rtol=1e-4, atol=1e-4)


def test_timms_weights_give_timms_features(randomised, begun) -> None:
    """In a size that needs no padding, which timm adds after the shift, unlike the authors."""
    arguments = {"window_size": 3, "always_partition": True, "num_classes": 2}
    theirs = randomised(timm_swin.SwinTransformer(img_size=(96, 192), **TINY, **arguments))
    ours = begun(SwinTransformer(**TINY, window=3), pretrained.from_timm(theirs.state_dict()))
    x = torch.randn(2, 3, 96, 192)
    with torch.no_grad():
        found, y = ours(x), theirs.patch_embed(x)
        for number, layer in enumerate(theirs.layers):
            y = layer(y)
            torch.testing.assert_close(found[f"p{number}"], normalised(y), rtol=1e-4, atol=1e-4)


def test_the_authors_names_are_ours_but_for_what_follows_from_sizes() -> None:
    model = SwinTransformer(**TINY)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("norm")}
    sizes = ("layers.0.blocks.1.attn_mask", "layers.0.blocks.0.attn.relative_position_index")
    extra = {name: torch.zeros(1) for name in (*sizes, "norm.weight", "norm.bias", "head.weight", "head.bias")}
    assert pretrained.from_microsoft({**state, **extra}).keys() == state.keys()


def test_biases_are_resized_to_larger_windows(begun) -> None:
    weights = {name: torch.rand_like(each) for name, each in SwinTransformer(**TINY).state_dict().items()}
    grown = begun(SwinTransformer(**TINY, window=12), weights).state_dict()
    name = "layers.2.blocks.1.attn.relative_position_bias_table"
    old, new = weights[name].unflatten(0, (13, 13)), grown[name].unflatten(0, (23, 23))
    assert torch.allclose(new[11, 11], old[6, 6], atol=1e-5)  # no distance stays none


def test_each_pair_of_positions_has_the_bias_of_its_difference() -> None:
    index = relative_index(3, torch.device("cpu"))
    seen = {}
    for first in range(9):
        for second in range(9):
            difference = (first // 3 - second // 3, first % 3 - second % 3)
            assert seen.setdefault(difference, index[first, second]) == index[first, second]
    assert sorted(int(each) for each in seen.values()) == list(range(25))
    assert seen[-2, -2] == 0
    assert seen[-2, -1] == 1


def test_shifted_windows_see_what_was_beside_them_alone() -> None:
    """Positions of a window that lie at most a window apart in the map see each other, and no others."""
    side, height, width = 4, 8, 12
    mask = shift_mask(height, width, side, torch.device("cpu"))
    rows, columns = torch.arange(height).roll(-2), torch.arange(width).roll(-2)
    for number in range(len(mask)):
        top, left = number // 3 * side, number % 3 * side
        at = torch.cartesian_prod(rows[top : top + side], columns[left : left + side])
        near = ((at[:, None] - at).abs() < side).all(dim=-1)
        assert torch.equal(mask[number] == 0, near)
    assert mask.min() == -100


def test_a_pixel_reaches_no_further_than_its_window() -> None:
    torch.manual_seed(0)
    model = SwinTransformer(embed_dim=8, depths=(1,), num_heads=(1,), window=2, out_features=("p0",)).eval()
    x = torch.randn(1, 3, 32, 32)
    changed = x.clone()
    changed[..., 9, 9] += 1
    with torch.no_grad():
        difference = (model(x)["p0"] - model(changed)["p0"]).abs().amax(dim=1)[0] > 1e-6
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:4, 2:4] = True
    assert torch.equal(difference, expected)


def test_absolute_positions_are_resized_to_the_image() -> None:
    torch.manual_seed(0)
    model = SwinTransformer(**TINY, absolute_positions=4).eval()
    assert set(model.positions()) == {name for name in model.state_dict() if "position" in name or "absolute" in name}
    with torch.no_grad():
        model.absolute_pos_embed.fill_(1.0)
        constant = model(torch.zeros(1, 3, 64, 32))["p0"]
        model.absolute_pos_embed.zero_()
        model.patch_embed.norm.bias.add_(1.0)
        assert torch.allclose(model(torch.zeros(1, 3, 64, 32))["p0"], constant, atol=1e-5)


def test_layers_are_blocks() -> None:
    layers = SwinTransformer(**TINY, absolute_positions=2).layer_prefixes()
    assert len(layers) == 9
    assert layers[0] == ["patch_embed", "absolute_pos_embed"]
    assert layers[2] == ["layers.0.blocks.1", "layers.0.downsample"]
    assert layers[-1] == ["layers.3.blocks.1"]
