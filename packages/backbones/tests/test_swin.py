import pytest
import timm.models.swin_transformer as timm_swin
import torch
import torchvision
from torch import Tensor, nn

from det_backbones.swin import SwinTransformer, relative_index, shift_mask
from det_backbones.weights import swin as pretrained

TINY = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4)}


def randomised(model: nn.Module) -> nn.Module:
    """Its norms and biases too, in which swapped arrays would show."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    return model.eval()


def normalised(x: Tensor) -> Tensor:
    return nn.functional.layer_norm(x, x.shape[-1:]).permute(0, 3, 1, 2)


def loaded(weights: dict[str, Tensor], **arguments: object) -> SwinTransformer:
    model = SwinTransformer(**{**TINY, **arguments}).eval()
    model.load_state_dict(model.fit_weights(weights))
    return model


def test_torchvisions_weights_give_torchvisions_features() -> None:
    theirs = randomised(
        torchvision.models.SwinTransformer([4, 4], 16, [2, 2, 2, 2], [1, 2, 2, 4], window_size=[3, 3], num_classes=2)
    )
    ours = loaded(pretrained.from_torchvision(theirs.state_dict()), window=3)
    x = torch.randn(2, 3, 160, 128)  # maps of 40 x 32 to 5 x 4, none a multiple of 3 all the way
    with torch.no_grad():
        found, y = ours(x), x
        for number, layer in enumerate(theirs.features):
            y = layer(y)
            if number % 2:
                torch.testing.assert_close(found[f"p{number // 2}"], normalised(y), rtol=1e-4, atol=1e-4)


def test_timms_weights_give_timms_features() -> None:
    """In a size that needs no padding, which timm adds after the shift, unlike the authors."""
    arguments = {"window_size": 3, "always_partition": True, "num_classes": 2}
    theirs = randomised(timm_swin.SwinTransformer(img_size=(96, 192), **TINY, **arguments))
    ours = loaded(pretrained.from_timm(theirs.state_dict()), window=3)
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


@pytest.mark.parametrize(
    ("size", "width", "depths", "heads", "million"),
    [
        ("t", 96, (2, 2, 6, 2), (3, 6, 12, 24), 28),
        ("s", 96, (2, 2, 18, 2), (3, 6, 12, 24), 50),
        ("b", 128, (2, 2, 18, 2), (4, 8, 16, 32), 88),
    ],
)
def test_published_sizes_have_the_arrays_of_torchvisions(
    size: str, width: int, depths: tuple[int, ...], heads: tuple[int, ...], million: int
) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, f"swin_{size}")(weights=None)
        ours = SwinTransformer(embed_dim=width, depths=depths, num_heads=heads)
    weights = ours.fit_weights(pretrained.from_torchvision(theirs.state_dict()))
    assert {name: value.shape for name, value in weights.items()} == {
        name: value.shape for name, value in ours.state_dict().items()
    }
    classifier = sum(parameter.numel() for parameter in theirs.head.parameters())
    total = sum(parameter.numel() for parameter in theirs.parameters())
    assert round(total / 1e6) == million
    outputs = sum(2 * width * 2**stage for stage in range(3))  # norms that torchvision's has not
    assert sum(parameter.numel() for parameter in ours.parameters()) == total - classifier + outputs


def test_strange_arrays_are_an_error() -> None:
    for convert in (pretrained.from_microsoft, pretrained.from_torchvision, pretrained.from_timm):
        with pytest.raises(ValueError, match="not the arrays of a Swin Transformer: fc1_w"):
            convert({"fc1_w": torch.zeros(1)})


def test_published_weights_begin_models_of_fewer_stages_and_larger_windows() -> None:
    weights = {name: torch.rand_like(each) for name, each in SwinTransformer(**TINY).state_dict().items()}
    weights = pretrained.from_microsoft({name: each for name, each in weights.items() if not name.startswith("norm")})
    short = loaded(weights, out_features=("p1", "p2"), window=12)
    name = "layers.2.blocks.1.attn.relative_position_bias_table"
    table, grown = weights[name].unflatten(0, (13, 13)), short.state_dict()[name].unflatten(0, (23, 23))
    assert torch.allclose(grown[11, 11], table[6, 6], atol=1e-5)  # no distance stays none
    assert torch.equal(short.patch_embed.proj.weight, weights["patch_embed.proj.weight"])


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


def test_recomputed_activations_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    plain, saving = (SwinTransformer(**TINY, drop_path=0.0, checkpointing=each) for each in (False, True))
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 64, 64)
    for model in (plain, saving):
        sum(each.square().mean() for each in model(x).values()).backward()
    for first, second in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(first.grad, second.grad)


def test_branches_are_left_out_more_often_towards_the_end_and_never_in_frozen_stages() -> None:
    model = SwinTransformer(**TINY, drop_path=0.7, freeze_at=2)
    rates = [getattr(block.drop_path, "p", 0.0) for layer in model.layers for block in layer.blocks]
    assert rates == pytest.approx([0, 0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    trained = {name.split(".")[1] for name, each in model.named_parameters() if "layers" in name and each.requires_grad}
    assert trained == {"1", "2", "3"}
    assert not model.patch_embed.proj.weight.requires_grad


def test_absolute_positions_are_resized_to_the_image() -> None:
    torch.manual_seed(0)
    model = SwinTransformer(**TINY, absolute_positions=4, drop_path=0.0).eval()
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": (3, 6)}, "one of each per stage"),
        ({"num_heads": (5, 6, 12, 24)}, "they must divide"),
        ({"out_features": ()}, "choose from p0, p1, p2, p3"),
        ({"out_features": ("res2",)}, "choose from p0, p1, p2, p3"),
        ({"freeze_at": 6}, "freeze_at is 6"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SwinTransformer(**arguments)
