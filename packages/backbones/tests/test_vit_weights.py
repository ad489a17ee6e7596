import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from det_backbones.vit import ViT
from det_backbones.weights import vit as pretrained

TINY = {"embed_dim": 32, "depth": 2, "num_heads": 4, "window": 0, "relative_positions": False, "pretrain_size": 64}


@torch.no_grad()
def features(model: ViT, x: Tensor) -> Tensor:
    """Tokens (B, N, C), row by row."""
    return model(x)["last_feat"].flatten(2).transpose(1, 2)


def timms(**arguments: object) -> nn.Module:
    sizes = {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 2}
    return timm.models.VisionTransformer(**{**sizes, **arguments})


def test_timms_weights_give_timms_features(randomised, begun) -> None:
    theirs = randomised(timms(class_token=False, global_pool="avg"))
    ours = begun(ViT(**TINY), pretrained.from_timm(theirs.state_dict()))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.blocks(theirs._pos_embed(theirs.patch_embed(x)))
    torch.testing.assert_close(features(ours, x), expected, rtol=1e-4, atol=1e-5)


def test_torchvisions_weights_give_torchvisions_features_without_the_class_token(randomised, begun) -> None:
    theirs = randomised(torchvision.models.VisionTransformer(64, 16, 2, 4, 32, 128, num_classes=2))
    ours = begun(ViT(**TINY), pretrained.from_torchvision(theirs.state_dict()))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        tokens = theirs._process_input(x) + theirs.encoder.pos_embedding[:, 1:]
        expected = theirs.encoder.layers(tokens)
    torch.testing.assert_close(features(ours, x), expected, rtol=1e-4, atol=1e-5)


def test_the_position_of_the_class_token_is_left_out() -> None:
    theirs = timms()
    weights = pretrained.from_timm(theirs.state_dict())
    assert torch.equal(weights["pos_embed"].flatten(1, 2), theirs.pos_embed[:, 1:])


def test_other_positions_and_patches_are_resized_and_relative_positions_begin_from_zeros(begun) -> None:
    theirs = timms(img_size=70, patch_size=14)
    weights = pretrained.from_timm(theirs.state_dict())
    ours = begun(ViT(**{**TINY, "relative_positions": True, "window": 2}, residual_blocks=[1]), weights)
    assert ours.pos_embed is not None
    assert weights["pos_embed"].shape == (1, 5, 5, 32)
    assert ours.pos_embed.shape == (1, 4, 4, 32)
    assert ours.patch_embed.proj.weight.shape == (32, 3, 16, 16)
    torch.testing.assert_close(ours.pos_embed.mean(), weights["pos_embed"].mean(), rtol=0, atol=0.02)
    assert not ours.blocks[0].attn.rel_pos_h.any()  # type: ignore[union-attr, operator]


def test_weights_fit_a_backbone_without_absolute_positions(begun) -> None:
    weights = pretrained.from_timm(timms().state_dict())
    assert begun(ViT(**TINY, absolute_positions=False), weights).pos_embed is None


def test_what_autoencoders_have_beyond_the_encoder_is_left_out() -> None:
    state = timms().state_dict()
    others = {name: torch.zeros(1) for name in ("mask_token", "decoder_blocks.0.norm1.weight", "decoder_pos_embed")}
    assert pretrained.from_timm({**state, **others}).keys() == pretrained.from_timm(state).keys()


def test_positions_are_of_a_square() -> None:
    with pytest.raises(ValueError, match="198 positions are not of a square map"):
        pretrained.from_timm({"pos_embed": torch.zeros(1, 198, 4)})
