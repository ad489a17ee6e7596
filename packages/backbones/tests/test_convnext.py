import timm.models.convnext as timm_convnext
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig

from det_backbones.convnext import ConvNeXt
from det_backbones.weights import convnext as pretrained

TINY = {"depths": (1, 2, 4, 1), "dims": (8, 12, 16, 20)}


def normalised(x: Tensor) -> Tensor:
    x = x.permute(0, 2, 3, 1)
    return nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6).permute(0, 3, 1, 2)


def test_torchvisions_weights_give_torchvisions_features(randomised, begun) -> None:
    ends = (*TINY["dims"][1:], None)
    blocks = [CNBlockConfig(*each) for each in zip(TINY["dims"], ends, TINY["depths"], strict=True)]
    theirs = randomised(torchvision.models.ConvNeXt(blocks, layer_scale=1.0, num_classes=2))
    ours = begun(ConvNeXt(**TINY), pretrained.from_torchvision(theirs.state_dict()))
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        found, y = ours(x), x
        for number, layer in enumerate(theirs.features):
            y = layer(y)
            if number % 2:
                torch.testing.assert_close(found[f"p{number // 2}"], normalised(y), rtol=1e-4, atol=1e-4)


def test_timms_weights_give_timms_features(randomised, begun) -> None:
    theirs = randomised(timm_convnext.ConvNeXt(**TINY, num_classes=2))
    ours = begun(ConvNeXt(**TINY), pretrained.from_timm(theirs.state_dict()))
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


def test_layers_are_stages_and_groups_of_three_blocks_of_the_third() -> None:
    with torch.device("meta"):
        layers = ConvNeXt(depths=(3, 3, 27, 3)).layer_prefixes()
    assert len(layers) == 13  # the stem, and twelve as in the paper's fine-tuning of B
    assert layers[0] == ["downsample_layers.0"]
    assert layers[1] == [f"stages.0.{block}" for block in range(3)]
    assert layers[3] == ["downsample_layers.2", *(f"stages.2.{block}" for block in range(3))]
    assert layers[11] == [f"stages.2.{block}" for block in range(24, 27)]
    assert layers[12] == ["downsample_layers.3", *(f"stages.3.{block}" for block in range(3))]
