"""Weights as timm and the authors publish them, against timm's models."""

import pytest
import timm
import torch
from torch import Tensor

from det_backbones.mvit import MViT
from det_backbones.weights.mvit import from_fair, from_timm


@pytest.mark.parametrize("expand", ["attention", "mlp"])
def test_features_are_timms(expand: str) -> None:
    """For images of the size of pretraining: timm does not resize tables. Classifiers have no windows, and pool keys
    and values of the last blocks of stages like those of the others."""
    torch.manual_seed(0)
    theirs = timm.models.mvitv2.MultiScaleVit(
        timm.models.mvitv2.MultiScaleVitCfg(
            depths=(1, 2, 3, 2), embed_dim=16, num_heads=2, expand_attn=expand == "attention"
        ),
        img_size=(64, 64),
    ).eval()
    ours = MViT(embed_dim=16, num_heads=2, depths=(1, 2, 3, 2), window=0, image_size=64, expand=expand).eval()
    for block in (ours.blocks[2], ours.blocks[5]):
        for pool in (block.attn.pool_k, block.attn.pool_v):
            pool.stride = (pool.stride[0] // 2, pool.stride[1] // 2)
    ours.load_state_dict(ours.fit_weights(from_timm(theirs.state_dict())))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.forward_intermediates(images, intermediates_only=True)
        found = ours(images)
        normed = [
            norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            for norm, maps in zip(ours.norms.values(), expected, strict=True)
        ]
    torch.testing.assert_close(list(found.values()), normed, rtol=1e-4, atol=1e-5)


def published(model: MViT) -> dict[str, Tensor]:
    """As the authors' checkpoints are, some with kernels for videos."""
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("norms.")}
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"][:, :, None]
    width = model.output_shapes["scale5"].channels
    classifier = {"norm.weight": (width,), "norm.bias": (width,), "head.projection.weight": (10, width)}
    return state | {name: torch.zeros(shape) for name, shape in {**classifier, "cls_token": (1, 1, 8)}.items()}


def test_the_authors_weights_load_without_the_classifier() -> None:
    source, model = (MViT(embed_dim=8, depths=(1, 1, 1, 1), image_size=64) for _ in range(2))
    model.load_state_dict(model.fit_weights(from_fair(published(source))))
    torch.testing.assert_close(model.state_dict(), source.state_dict())
