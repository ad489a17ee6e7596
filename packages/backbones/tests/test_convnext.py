import pytest
import timm.models.convnext as timm_convnext
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig

from det_backbones.convnext import ConvNeXt
from det_backbones.weights import convnext as pretrained

TINY = {"depths": (1, 2, 4, 1), "dims": (8, 12, 16, 20)}
SIZES = {
    "tiny": ((3, 3, 9, 3), 96),
    "small": ((3, 3, 27, 3), 96),
    "base": ((3, 3, 27, 3), 128),
    "large": ((3, 3, 27, 3), 192),
}


def randomised(model: nn.Module) -> nn.Module:
    """Its norms, biases and gains too, in which swapped arrays would show."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    return model.eval()


def normalised(x: Tensor) -> Tensor:
    x = x.permute(0, 2, 3, 1)
    return nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6).permute(0, 3, 1, 2)


def loaded(weights: dict[str, Tensor], **arguments: object) -> ConvNeXt:
    model = ConvNeXt(**{**TINY, **arguments}).eval()
    model.load_state_dict(model.fit_weights(weights))
    return model


def test_torchvisions_weights_give_torchvisions_features() -> None:
    ends = (*TINY["dims"][1:], None)
    blocks = [CNBlockConfig(*each) for each in zip(TINY["dims"], ends, TINY["depths"], strict=True)]
    theirs = randomised(torchvision.models.ConvNeXt(blocks, layer_scale=1.0, num_classes=2))
    ours = loaded(pretrained.from_torchvision(theirs.state_dict()))
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        found, y = ours(x), x
        for number, layer in enumerate(theirs.features):
            y = layer(y)
            if number % 2:
                torch.testing.assert_close(found[f"p{number // 2}"], normalised(y), rtol=1e-4, atol=1e-4)


def test_timms_weights_give_timms_features() -> None:
    theirs = randomised(timm_convnext.ConvNeXt(**TINY, num_classes=2))
    ours = loaded(pretrained.from_timm(theirs.state_dict()))
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        found, y = ours(x), theirs.stem(x)
        for number, stage in enumerate(theirs.stages):
            y = stage(y)
            torch.testing.assert_close(found[f"p{number}"], normalised(y), rtol=1e-4, atol=1e-4)


def test_the_authors_names_are_ours() -> None:
    model = ConvNeXt(**TINY)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("norm")}
    extra = {name: torch.zeros(1) for name in ("norm.weight", "norm.bias", "head.weight", "head.bias")}
    assert pretrained.from_fair({**state, **extra}).keys() == state.keys()


def test_the_authors_arrays_are_timms() -> None:
    """timm reads the authors' files by renaming them; that and our own renaming of timm's must come to the same."""
    model = ConvNeXt(**TINY)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("norm")}
    timms = timm_convnext.checkpoint_filter_fn(state, timm_convnext.ConvNeXt(**TINY, num_classes=0))
    back = pretrained.from_timm(timms)
    assert back.keys() == state.keys()
    assert all(back[name] is state[name] or torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_have_the_arrays_of_torchvisions(size: str) -> None:
    depths, width = SIZES[size]
    with torch.device("meta"):
        theirs = getattr(torchvision.models, f"convnext_{size}")(weights=None)
        ours = ConvNeXt(depths=depths, dims=[width * 2**stage for stage in range(4)])
    weights = ours.fit_weights(pretrained.from_torchvision(theirs.state_dict()))
    assert {name: value.shape for name, value in weights.items()} == {
        name: value.shape for name, value in ours.state_dict().items()
    }


def test_strange_arrays_are_an_error() -> None:
    for convert in (pretrained.from_fair, pretrained.from_torchvision, pretrained.from_timm):
        with pytest.raises(ValueError, match="not the arrays of a ConvNeXt: fc1_w"):
            convert({"fc1_w": torch.zeros(1)})


def test_published_weights_begin_models_of_fewer_stages() -> None:
    weights = {name: torch.rand_like(each) for name, each in ConvNeXt(**TINY).state_dict().items()}
    weights = {name: each for name, each in weights.items() if not name.startswith("norm")}
    model = loaded(weights, out_features=("p0", "p2"))
    assert torch.equal(model.stages[2][3].gamma, weights["stages.2.3.gamma"])
    assert set(model.norm2.weight.tolist()) == {1.0}


def test_recomputed_activations_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    plain, saving = (ConvNeXt(**TINY, layer_scale=1.0, checkpointing=each) for each in (False, True))
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 64, 64)
    for model in (plain, saving):
        sum(each.square().mean() for each in model(x).values()).backward()
    for first, second in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(first.grad, second.grad)


def test_branches_are_left_out_more_often_towards_the_end_and_never_in_frozen_stages() -> None:
    model = ConvNeXt(**TINY, drop_path=0.7, freeze_at=3)
    rates = [getattr(block.drop_path, "p", 0.0) for stage in model.stages for block in stage]
    assert rates == pytest.approx([0, 0, 0, 0.3, 0.4, 0.5, 0.6, 0.7])
    frozen = {name.rpartition(".")[0][:19] for name, each in model.named_parameters() if not each.requires_grad}
    assert {name for name in frozen if name.startswith("down")} == {f"downsample_layers.{stage}" for stage in range(3)}
    assert not any(name.startswith(("stages.2", "stages.3")) for name in frozen)


def test_layers_are_stages_and_groups_of_three_blocks_of_the_third() -> None:
    with torch.device("meta"):
        layers = ConvNeXt(depths=(3, 3, 27, 3)).layer_prefixes()
    assert len(layers) == 13  # the stem, and twelve as in the paper's fine-tuning of B
    assert layers[0] == ["downsample_layers.0"]
    assert layers[1] == [f"stages.0.{block}" for block in range(3)]
    assert layers[3] == ["downsample_layers.2", *(f"stages.2.{block}" for block in range(3))]
    assert layers[11] == [f"stages.2.{block}" for block in range(24, 27)]
    assert layers[12] == ["downsample_layers.3", *(f"stages.3.{block}" for block in range(3))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dims": (8, 16)}, "one of each per stage"),
        ({"out_features": ("res2",)}, "choose from p0, p1, p2, p3"),
        ({"freeze_at": -1}, "freeze_at is -1"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvNeXt(**arguments)
