"""What backbones, necks and trunks refuse, and how they say it."""

from typing import Any

import pytest

from det_backbones.convnext import ConvNeXt
from det_backbones.fbnet import FBNet, FBNetLayers
from det_backbones.fbnet_archs import Block
from det_backbones.fpn import FPN
from det_backbones.hrnet import HRNet
from det_backbones.mvit import MViT
from det_backbones.regnet import RegNet
from det_backbones.resnet import ResNet, ResNetRes5
from det_backbones.simple_fpn import SimpleFPN
from det_backbones.swin import SwinTransformer
from det_backbones.vgg import VGG
from det_backbones.vit import ViT
from detkit.structures.shape import Shape

STAGES = {
    ConvNeXt: "p0, p1, p2, p3",
    FBNet: "trunk0, trunk1, trunk2, trunk3, trunk4",
    MViT: "scale2, scale3, scale4, scale5",
    RegNet: "s1, s2, s3, s4",
    ResNet: "res2, res3, res4, res5",
    SwinTransformer: "p0, p1, p2, p3",
    VGG: "conv1, conv2, conv3, conv4, conv5",
}
PARTS = {
    ConvNeXt: "the stem, p0, p1, p2, p3",
    FBNet: STAGES[FBNet],
    HRNet: "stem, stage1, stage2, stage3, stage4",
    RegNet: f"stem, {STAGES[RegNet]}",
    ResNet: f"stem, {STAGES[ResNet]}",
    SwinTransformer: "the patches, p0, p1, p2, p3",
    VGG: STAGES[VGG],
}
REGION = {"region": Shape(8, 16)}


@pytest.mark.parametrize("backbone", STAGES)
def test_maps_are_those_of_the_stages(backbone: Any) -> None:
    with pytest.raises(ValueError, match=rf"^out_features is \['x'\]; choose from {STAGES[backbone]}$"):
        backbone(out_features=["x"])
    with pytest.raises(ValueError, match=f"^out_features is empty; choose from {STAGES[backbone]}$"):
        backbone(out_features=[])


@pytest.mark.parametrize("backbone", PARTS)
@pytest.mark.parametrize("freeze_at", [-1, 6])
def test_no_more_can_be_frozen_than_there_is(backbone: Any, freeze_at: int) -> None:
    message = f"^freeze_at is {freeze_at}; it is how many of {PARTS[backbone]} are constants, 0 to 5$"
    with pytest.raises(ValueError, match=message):
        backbone(freeze_at=freeze_at)


@pytest.mark.parametrize("backbone", [ConvNeXt, MViT, SwinTransformer, ViT])
@pytest.mark.parametrize("drop_path", [-0.1, 1.0])
def test_what_is_left_out_has_a_probability_below_1(backbone: Any, drop_path: float) -> None:
    with pytest.raises(ValueError, match=f"drop_path is {drop_path}; a probability from 0 to below 1 is needed"):
        backbone(drop_path=drop_path)


@pytest.mark.parametrize(
    ("component", "arguments", "message"),
    [
        (ResNet, {"depth": 49}, "depth is 49; choose from 18, 34, 50, 101, 152"),
        (ResNet, {"depth": 34, "groups": 32}, "of bottlenecks, which ResNet-34 does not have"),
        (ResNet, {"stem": "shallow"}, "stem is 'shallow'; choose from 'basic', 'deep'"),
        (ResNet, {"output_stride": 4}, "output_stride is 4; choose from 32, 16, 8"),
        (ResNet, {"multi_grid": [1, 2]}, r"multi_grid is \[1, 2\]; res5 of ResNet-50 has 3 blocks"),
        (ResNet, {"deform": ["res6"]}, r"deform is \['res6'\]; choose from res2, res3, res4, res5"),
        (ResNet, {"non_local": {"res4": [6]}}, r"non_local of res4 is \[6\]; its blocks are 0 to 5"),
        (ResNet, {"non_local": {"p4": [0]}}, r"non_local is \['p4'\]; choose from res2, res3, res4, res5"),
        (ResNetRes5, {"input_shapes": {**REGION, "p3": Shape(4, 8)}}, r"the maps region, p3 have \[4, 8\] channels"),
        (RegNet, {"w_0": 20}, "w_0 20, .*a w_0 that is a multiple of 8"),
        (RegNet, {"w_m": 1.0}, "w_m above 1"),
        (RegNet, {"depth": 3}, "make stages of widths .*; a RegNet has four"),
        (RegNet, {"se_ratio": 2.0}, "se_ratio is 2.0; it must be from 0"),
        (VGG, {"depth": 17}, "depth is 17; choose from 11, 13, 16, 19"),
        (HRNet, {"modules": (1, 4)}, r"modules is \[1, 4\]; give a number of 1 or more for each of stages 2, 3 and 4"),
        (HRNet, {"width": 18, "blocks": 0}, "width is 18 and blocks is 0; both must be 1 or more"),
        (ConvNeXt, {"dims": (8, 16)}, r"depths \[3, 3, 9, 3\] and dims \[8, 16\] are for different numbers of stages"),
        (SwinTransformer, {"num_heads": (3, 6)}, r"and num_heads \[3, 6\] are for different numbers of stages"),
        (SwinTransformer, {"num_heads": (5, 6, 12, 24)}, "they must divide"),
        (MViT, {"depths": (1, 2, 3)}, "four numbers of blocks"),
        (MViT, {"embed_dim": 10, "num_heads": 3}, "a multiple of num_heads"),
        (MViT, {"kv_stride": 3}, "kv_stride is 3; choose from 1, 2, 4, 8"),
        (MViT, {"expand": "both"}, "expand is 'both'; choose from 'attention', 'mlp'"),
        (MViT, {"window": 7}, "window is 7; it must be a multiple of 8"),
        (MViT, {"image_size": 16}, "at least 32"),
        (ViT, {"embed_dim": 16, "num_heads": 3}, "embed_dim is 16 and num_heads 3"),
        (ViT, {"image_size": 8}, "image_size is 8; it must be at least the side of a patch, 16"),
        (ViT, {"pretrain_size": 8}, "pretrain_size is 8"),
        (ViT, {"window": 0, "global_blocks": [1]}, "leave out global_blocks"),
        (ViT, {"global_blocks": [12]}, r"global_blocks is \[12\]; the 12 blocks are 0 to 11"),
        (ViT, {"residual_blocks": [-1]}, r"residual_blocks is \[-1\]"),
        (FBNet, {"arch": "z"}, "arch is 'z'; choose one of a, b"),
        (FBNet, {"stages": []}, "stages is empty"),
        (FBNet, {"stages": [[Block(channels=8, stride=-2)]]}, r"stage 0 has the strides \[-2\]"),
        (FBNet, {"stages": [[Block(channels=8)], []]}, "stage 1 has the strides"),
        (FBNet, {"flavour": "relu"}, "flavour is 'relu'; choose from 'mobile', 'imagenet'"),
        (FBNet, {"width": 0}, "width is 0"),
        (FBNetLayers, {"input_shapes": REGION, "arch": "b", "part": "mask"}, "b has no blocks for a mask head, only"),
        (FBNetLayers, {"input_shapes": REGION, "blocks": []}, "blocks is empty"),
        (FBNetLayers, {"input_shapes": {**REGION, "p3": Shape(4, 8)}}, r"the maps region, p3 have \[4, 8\] channels"),
        (FPN, {"input_shapes": REGION, "fuse": "max"}, "fuse is 'max'; choose from 'sum', 'avg'"),
        (SimpleFPN, {"input_shapes": REGION, "top": "p5"}, "top is 'p5'; choose from 'pool', ''"),
        (Block, {"channels": 8, "kind": "max"}, "kind is 'max'; choose from 'ir', 'conv'"),
        (Block, {"channels": 8, "kernel": 4}, "the kernel odd"),
        (Block, {"channels": 8, "stride": 3}, "stride is 3"),
        (Block, {"channels": 8, "kind": "conv", "stride": -2}, "stride is -2"),
        (Block, {"channels": 8, "kind": "conv", "squeeze": True}, "are of inverted residual blocks"),
    ],
)
def test_what_cannot_be_is_refused(component: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        component(**arguments)
