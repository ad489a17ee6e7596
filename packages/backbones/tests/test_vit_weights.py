import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from det_backbones.vit import ViT
from det_backbones.weights import vit as pretrained

TINY = {"embed_dim": 32, "depth": 2, "num_heads": 4, "window": 0, "relative_positions": False, "pretrain_size": 64}


def randomised(model: nn.Module) -> nn.Module:
    """Its norms, biases and positions too, in which swapped arrays would show."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    return model.eval()


def loaded(weights: dict[str, Tensor], **arguments: object) -> ViT:
    model = ViT(**{**TINY, **arguments}).eval()  # type: ignore[arg-type]
    model.load_state_dict(model.fit_weights(weights))
    return model


@torch.no_grad()
def features(model: ViT, x: Tensor) -> Tensor:
    """Tokens (B, N, C), row by row."""
    return model(x)["last_feat"].flatten(2).transpose(1, 2)


def timms(**arguments: object) -> nn.Module:
    sizes = {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 2}
    return randomised(timm.models.VisionTransformer(**{**sizes, **arguments}))


def test_timms_weights_give_timms_features() -> None:
    theirs = timms(class_token=False, global_pool="avg")
    ours = loaded(pretrained.from_timm(theirs.state_dict()))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.blocks(theirs._pos_embed(theirs.patch_embed(x)))
    torch.testing.assert_close(features(ours, x), expected, rtol=1e-4, atol=1e-5)


def test_torchvisions_weights_give_torchvisions_features_without_the_class_token() -> None:
    theirs = randomised(torchvision.models.VisionTransformer(64, 16, 2, 4, 32, 128, num_classes=2))
    ours = loaded(pretrained.from_torchvision(theirs.state_dict()))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        tokens = theirs._process_input(x) + theirs.encoder.pos_embedding[:, 1:]
        expected = theirs.encoder.layers(tokens)
    torch.testing.assert_close(features(ours, x), expected, rtol=1e-4, atol=1e-5)


def test_the_position_of_the_class_token_is_left_out() -> None:
    theirs = timms()
    weights = pretrained.from_timm(theirs.state_dict())
    assert torch.equal(weights["pos_embed"].flatten(1, 2), theirs.pos_embed[:, 1:])


def test_other_positions_and_patches_are_resized_and_relative_positions_begin_from_zeros() -> None:
    theirs = timms(img_size=70, patch_size=14)
    weights = pretrained.from_timm(theirs.state_dict())
    ours = loaded(weights, relative_positions=True, window=2, residual_blocks=[1])
    assert ours.pos_embed is not None
    assert weights["pos_embed"].shape == (1, 5, 5, 32)
    assert ours.pos_embed.shape == (1, 4, 4, 32)
    assert ours.patch_embed.proj.weight.shape == (32, 3, 16, 16)
    torch.testing.assert_close(ours.pos_embed.mean(), weights["pos_embed"].mean(), rtol=0, atol=0.02)
    assert not ours.blocks[0].attn.rel_pos_h.any()  # type: ignore[union-attr, operator]


def test_weights_fit_a_backbone_without_absolute_positions() -> None:
    weights = pretrained.from_timm(timms().state_dict())
    assert loaded(weights, absolute_positions=False).pos_embed is None


@pytest.mark.parametrize(("name", "width", "depth", "heads"), [("vit_b_16", 768, 12, 12), ("vit_l_16", 1024, 24, 16)])
def test_published_sizes_have_the_arrays_of_torchvisions(name: str, width: int, depth: int, heads: int) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(weights=None)
        ours = ViT(embed_dim=width, depth=depth, num_heads=heads)
        weights = ours.fit_weights(pretrained.from_torchvision(theirs.state_dict()))
    expected = {name: value.shape for name, value in ours.state_dict().items()}
    assert {name: value.shape for name, value in weights.items()} == expected


def test_vit_h_of_patches_of_14_fits_patches_of_16() -> None:
    with torch.device("meta"):
        theirs = timm.create_model("vit_huge_patch14_224", pretrained=False)
        ours = ViT(embed_dim=1280, depth=32, num_heads=16)
        weights = ours.fit_weights(pretrained.from_timm(theirs.state_dict()))
    expected = {name: value.shape for name, value in ours.state_dict().items()}
    assert {name: value.shape for name, value in weights.items()} == expected


def test_what_autoencoders_have_beyond_the_encoder_is_left_out() -> None:
    state = timms().state_dict()
    others = {name: torch.zeros(1) for name in ("mask_token", "decoder_blocks.0.norm1.weight", "decoder_pos_embed")}
    assert pretrained.from_timm({**state, **others}).keys() == pretrained.from_timm(state).keys()


def test_an_array_of_something_else_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"not the arrays of a vision transformer: blocks\.0\.ls1\.gamma"):
        pretrained.from_timm({"blocks.0.ls1.gamma": torch.zeros(1)})
    with pytest.raises(ValueError, match="198 positions are not of a square map"):
        pretrained.from_timm({"pos_embed": torch.zeros(1, 198, 4)})
