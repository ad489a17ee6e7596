import math
from collections import OrderedDict
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from det_backbones.fbnet import FBNet, FBNetLayers, divisible
from det_backbones.fbnet_archs import ARCHS, Block
from det_backbones.weights import fbnet as pretrained
from detkit.structures.shape import Shape
from detkit.testing.modules import unlike_new_norms

SMALL = [
    [Block(kind="conv", channels=8, stride=2), Block(channels=8)],
    [Block(channels=12, kernel=5, stride=2, expansion=4, squeeze=True, repeat=2)],
]


@pytest.mark.parametrize(
    ("arch", "channels"),
    [
        ("a", [16, 24, 32, 112, 200]),
        ("b", [16, 24, 40, 120, 224]),
        ("g", [24, 40, 56, 160, 288]),
        ("h", [32, 64, 80, 240, 480]),
        ("a_dsmask", [16, 32, 40, 112, 200]),
        ("mobilenet_v2", [16, 24, 32, 96, 320]),
    ],
)
def test_published_architectures_have_their_widths_and_strides(arch: Any, channels: list[int]) -> None:
    with torch.device("meta"):
        shapes = FBNet(arch=arch).output_shapes
    assert shapes == {f"trunk{i}": Shape(width, 2 ** (i + 1)) for i, width in enumerate(channels)}


@pytest.mark.parametrize("arch", ARCHS)
def test_published_architectures_halve_the_map_in_every_stage_and_have_an_rpn_and_a_box_head(arch: str) -> None:
    parts = ARCHS[arch]
    assert [math.prod(block.stride for block in stage) for stage in parts["trunk"]] == [2] * 5
    assert {"trunk", "rpn", "box"} <= parts.keys() <= {"trunk", "rpn", "box", "mask", "keypoint"}
    assert all(block.stride == 1 for block in parts["rpn"][0])


@pytest.mark.parametrize(
    ("arch", "published"),
    [("b", 8542224), ("c", 9907136), ("d", 10237552), ("e", 10699464), ("f", 13803072), ("g", 16513648)],
)
def test_it_has_as_many_weights_as_the_authors_publish(arch: Any, published: int) -> None:
    """They count the weights of convolutions, and those of the classifier: 1x1 convolutions to six times the last
    width, to 1984 channels and to 1000 classes."""
    with torch.device("meta"):
        model = FBNet(arch=arch, flavour="imagenet")
    width = model.output_shapes["trunk4"].channels
    classifier = width * 6 * width + 6 * width * 1984 + 1984 * 1000
    assert sum(each.numel() for each in model.parameters() if each.ndim == 4) + classifier == published


@pytest.mark.parametrize("arch", ["b", "d", "g"])
def test_timms_weights_give_timms_features(arch: Any) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(f"fbnetv3_{arch}").eval().double()
    unlike_new_norms(theirs)
    ours = FBNet(arch=arch, flavour="imagenet", norm="frozen_bn").eval().double()
    ours.load_state_dict(pretrained.from_timm(theirs.state_dict()))
    x = torch.randn(1, 3, 32, 64, dtype=torch.float64)
    with torch.no_grad():
        features = ours(x)
        y = theirs.bn1(theirs.conv_stem(x))
        for number, block in enumerate(theirs.blocks[:6]):
            y = block(y)
            if number != 3:  # the first half of a stage
                found = features[f"trunk{number - (number > 3)}"]
                scale = y.abs().max()
                assert scale > 0
                torch.testing.assert_close(found / scale, y / scale)


class ConvBNRelu(nn.Module):
    """With mobile_cv's names."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, act: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        return F.hardswish(y) if self.act else y


class SEModule(nn.Module):
    """Likewise."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        first = nn.Sequential(OrderedDict(conv=nn.Conv2d(channels, hidden, 1), relu=nn.Hardswish()))
        self.se = nn.Sequential(first, nn.Conv2d(hidden, channels, 1), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.se(F.adaptive_avg_pool2d(x, 1))


class IRFBlock(nn.Module):
    """Likewise."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, squeezed: int):
        super().__init__()
        hidden = inputs * expansion
        self.pw = ConvBNRelu(inputs, hidden, 1) if expansion > 1 else None
        self.dw = ConvBNRelu(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.se = SEModule(hidden, squeezed) if squeezed else None
        self.pwl = ConvBNRelu(hidden, outputs, 1, act=False)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.pw is None else self.pw(x)
        y = self.dw(y)
        y = self.pwl(y if self.se is None else self.se(y))
        return y + x if self.residual else y


FBNET_D = [
    [(3, 16, 1, 1, 0), (3, 16, 1, 1, 0)],
    [(3, 24, 2, 5, 0), *[(3, 24, 1, 2, 0)] * 5],
    [(5, 40, 2, 4, 8), *[(3, 40, 1, 3, 16)] * 4],
    [(3, 72, 2, 5, 0), *[(3, 72, 1, 3, 0)] * 4, (3, 128, 1, 5, 24), *[(5, 128, 1, 3, 32)] * 6],
    [(3, 208, 2, 6, 32), *[(5, 208, 1, 5, 56)] * 5, (5, 240, 1, 6, 56)],
]
"""For each stage the kernel, channels, stride, expansion and squeezed channels of each block."""


def test_mobile_cvs_weights_give_mobile_cvs_features() -> None:
    torch.manual_seed(0)
    stages = OrderedDict[str, nn.Module](xif0_0=ConvBNRelu(3, 24, 3, stride=2))
    channels = 24
    for stage, blocks in enumerate(FBNET_D, 1):
        for number, (kernel, outputs, stride, expansion, squeezed) in enumerate(blocks):
            stages[f"xif{stage}_{number}"] = IRFBlock(channels, outputs, kernel, stride, expansion, squeezed)
            channels = outputs
    theirs = nn.Sequential(stages).eval().double()
    unlike_new_norms(theirs)
    state = {f"module.backbone.stages.{name}": value for name, value in theirs.state_dict().items()}
    classifier = ("module.backbone.stages.xif6_0.pw.conv.weight", "module.head.conv.bias")
    ours = FBNet(arch="d", flavour="imagenet", norm="frozen_bn").eval().double()
    ours.load_state_dict(pretrained.from_mobile_cv({**state, **dict.fromkeys(classifier, torch.zeros(1))}))
    x = torch.randn(1, 3, 32, 64, dtype=torch.float64)
    with torch.no_grad():
        features, y = ours(x), x
        for name, block in theirs.named_children():
            y = block(y)
            stage, number = int(name[3]), int(name.split("_")[1])
            if stage and number == len(FBNET_D[stage - 1]) - 1:
                scale = y.abs().max()
                assert scale > 0
                torch.testing.assert_close(features[f"trunk{stage - 1}"] / scale, y / scale)


def test_d2gos_blocks_have_bare_depthwise_convolutions_and_wide_gates() -> None:
    model = FBNet(arch="a")
    block = model.trunk2[0]
    assert isinstance(block.depthwise, nn.Conv2d)
    assert not hasattr(block.depthwise, "norm")
    assert block.depthwise.bias is None
    assert block.squeeze.reduce.out_channels == 24  # a quarter of 24 * 4
    narrow = FBNet(arch="b", flavour="imagenet").trunk2[0]
    assert narrow.squeeze.reduce.out_channels == 8  # a quarter of 24, and a multiple of 8
    assert narrow.depthwise.norm is not None


def test_width_multiplies_all_channels() -> None:
    model = FBNet(arch="a_dsmask", width=0.75)
    assert [shape.channels for shape in model.output_shapes.values()] == [16, 24, 32, 88, 152]


@pytest.mark.parametrize(
    ("channels", "divisor", "expected"),
    [(30, 8, 32), (12, 8, 16), (10, 8, 16), (17, 8, 24), (33, 8, 32), (3, 8, 8), (7, 1, 7)],
)
def test_channels_are_rounded_but_not_far_down(channels: float, divisor: int, expected: int) -> None:
    assert divisible(channels, divisor) == expected


def test_stages_can_be_given() -> None:
    model = FBNet(stages=SMALL)
    assert model.output_shapes == {"trunk0": Shape(8, 2), "trunk1": Shape(12, 4)}
    assert [model.trunk1[i].residual for i in range(2)] == [False, True]
    assert model(torch.zeros(1, 3, 5, 9))["trunk1"].shape == (1, 12, 2, 3)


@pytest.mark.parametrize(
    ("part", "arch", "size", "channels"),
    [
        ("rpn", "a", 14, 112),
        ("box", "a", 7, 200),
        ("mask", "a", 28, 64),
        ("box", "a_dsmask", 7, 160),
        ("mask", "g_fpn", 28, 80),
        ("keypoint", "a_dsmask", 28, 64),
    ],
)
def test_heads_have_d2gos_blocks(part: Any, arch: Any, size: int, channels: int) -> None:
    trunk = FBNetLayers(input_shapes={"trunk3": Shape(112, 16)}, part=part, arch=arch)
    assert trunk.output_shapes == {"region": Shape(channels, 16 * 14 // size)}
    assert trunk(torch.zeros(2, 112, 14, 14)).shape == (2, channels, size, size)


def test_the_rpn_of_an_architecture_repeats_a_block_of_its_backbone() -> None:
    repeated = [len(FBNetLayers(input_shapes={"p2": Shape(8, 4)}, part="rpn", arch=arch).blocks) for arch in ("a", "g")]
    assert repeated == [5, 8]
    assert len(FBNetLayers(input_shapes={"p2": Shape(8, 4)}, part="rpn", arch="g_fpn").blocks) == 1
