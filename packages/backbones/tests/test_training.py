"""What is constant, left out or computed twice while a backbone is trained."""

import re
from typing import Any

import pytest
import torch
from torch import nn

from det_backbones.convnext import ConvNeXt
from det_backbones.fbnet import FBNet
from det_backbones.hrnet import HRNet
from det_backbones.mvit import MViT
from det_backbones.regnet import RegNet
from det_backbones.resnet import ResNet
from det_backbones.swin import SwinTransformer
from det_backbones.vgg import VGG
from det_backbones.vit import ViT
from detkit.layers import FrozenBatchNorm

RESNET = {"depth": 18, "norm": "bn", "width": 16}
REGNET = {"depth": 6, "w_a": 8, "w_0": 8, "w_m": 2, "group_width": 8, "se_ratio": 0.25, "norm": "bn"}
HRNET = {"width": 4, "modules": (1, 1, 1), "blocks": 1, "norm": "bn"}
FBNET = {"arch": "a_dsmask_tiny", "norm": "bn"}
VGG11 = {"depth": 11, "width": 8, "out_features": ["conv3"]}
CONVNEXT = {"depths": (1, 2, 4, 1), "dims": (8, 12, 16, 20), "layer_scale": 1.0}
SWIN = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4)}
VIT = {"embed_dim": 16, "depth": 4, "num_heads": 2, "window": 2, "image_size": 64, "pretrain_size": 64}
MVIT = {"embed_dim": 8, "depths": (1, 2, 1, 2), "image_size": 64, "window": 8}


@pytest.mark.parametrize(
    ("backbone", "arguments", "freeze_at", "frozen"),
    [
        (ResNet, RESNET, 0, "nothing"),
        (ResNet, RESNET, 1, "stem"),
        (ResNet, RESNET, 3, "stem|res2|res3"),
        (ResNet, {**RESNET, "out_features": ["res3"]}, 5, ".+"),
        (RegNet, REGNET, 3, "stem|s1|s2"),
        (VGG, VGG11, 2, "conv1|conv2"),
        (FBNet, FBNET, 1, "trunk0"),
        (HRNet, HRNET, 0, "nothing"),
        (HRNet, HRNET, 1, "stem"),
        (HRNet, HRNET, 2, "stem|stage1"),
        (HRNet, HRNET, 4, "stem|stage[123]|transition[12]"),
        (HRNet, HRNET, 5, ".+"),
        (ConvNeXt, CONVNEXT, 1, r"downsample_layers\.0"),
        (ConvNeXt, CONVNEXT, 3, r"downsample_layers\.[012]|stages\.[01]"),
        (SwinTransformer, {**SWIN, "absolute_positions": 4}, 1, "patch_embed|absolute_pos_embed"),
        (SwinTransformer, SWIN, 2, r"patch_embed|layers\.0"),
    ],
)
def test_frozen_parts_are_constants_and_all_others_are_trained(
    backbone: Any, arguments: dict[str, Any], freeze_at: int, frozen: str
) -> None:
    model = backbone(**arguments, freeze_at=freeze_at)
    prefix = re.compile(rf"(?:{frozen})(?:\.|$)")
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != bool(prefix.match(name)), name
    for name, module in model.named_modules():
        if isinstance(module, FrozenBatchNorm | nn.BatchNorm2d):
            assert isinstance(module, FrozenBatchNorm) == bool(prefix.match(name)), name


@pytest.mark.parametrize(
    ("backbone", "arguments", "expected"),
    [
        (ViT, {**VIT, "drop_path": 0.3}, [0, 0.1, 0.2, 0.3]),
        (MViT, {**MVIT, "drop_path": 0.5}, [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (ConvNeXt, {**CONVNEXT, "drop_path": 0.7, "freeze_at": 3}, [0, 0, 0, 0.3, 0.4, 0.5, 0.6, 0.7]),
        (SwinTransformer, {**SWIN, "drop_path": 0.7, "freeze_at": 2}, [0, 0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        (SwinTransformer, SWIN, [0] * 8),
    ],
)
def test_branches_are_left_out_more_often_towards_the_end_and_never_in_frozen_stages(
    backbone: Any, arguments: dict[str, Any], expected: list[float]
) -> None:
    blocks = [module for module in backbone(**arguments).modules() if hasattr(module, "drop_path")]
    assert [getattr(block.drop_path, "p", 0.0) for block in blocks] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("backbone", "arguments"), [(ViT, VIT), (MViT, MVIT), (ConvNeXt, CONVNEXT), (SwinTransformer, SWIN)]
)
def test_activations_that_are_computed_twice_give_the_same_gradients(backbone: Any, arguments: dict[str, Any]) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = backbone(**arguments, checkpointing=checkpointing, drop_path=0.5).train()
        sum(each.square().mean() for each in model(torch.randn(2, 3, 64, 64)).values()).backward()
        gradients.append({name: each.grad for name, each in model.named_parameters()})
    torch.testing.assert_close(*gradients)
