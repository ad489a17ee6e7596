import torch

from det_backbones.non_local import NonLocal
from det_backbones.resnet import ResNet, ResNetRes5
from detkit.structures.shape import Shape


def test_the_stride_is_where_the_weights_were_trained_with_it() -> None:
    for in_1x1 in (True, False):
        block = ResNet(depth=50, width=16, stride_in_1x1=in_1x1).res3[0]
        assert (block.conv1.stride, block.conv2.stride) == (((2, 2), (1, 1)) if in_1x1 else ((1, 1), (2, 2)))


def test_stages_after_the_last_wanted_are_not_built() -> None:
    model = ResNet(depth=50, width=16, out_features=["res4"])
    assert not hasattr(model, "res5")
    assert list(model(torch.zeros(1, 3, 64, 64))) == ["res4"]


def test_sides_need_not_be_multiples_of_anything() -> None:
    features = ResNet(depth=18, width=16).eval()(torch.zeros(1, 3, 75, 101))
    assert [tuple(each.shape[2:]) for each in features.values()] == [(19, 26), (10, 13), (5, 7), (3, 4)]


def test_a_dilated_last_stage_keeps_the_stride() -> None:
    model = ResNet(depth=50, width=8, output_stride=16)
    assert model.output_shapes["res5"] == Shape(256, 16)
    assert {block.conv2.dilation for block in model.res5} == {(2, 2)}
    assert {block.conv2.dilation for block in model.res4} == {(1, 1)}
    strides = {conv.stride for conv in (model.res5[0].conv1, model.res5[0].conv2, model.res5[0].shortcut)}
    assert strides == {(1, 1)}
    assert model(torch.zeros(1, 3, 64, 96))["res5"].shape == (1, 256, 4, 6)


def test_an_output_stride_of_8_dilates_two_stages() -> None:
    model = ResNet(depth=50, width=8, output_stride=8, multi_grid=[1, 2, 4])
    assert [shape.stride for shape in model.output_shapes.values()] == [4, 8, 8, 8]
    assert {block.conv2.dilation for block in model.res4} == {(2, 2)}
    assert [block.conv2.dilation for block in model.res5] == [(4, 4), (8, 8), (16, 16)]
    assert model(torch.zeros(1, 3, 64, 96))["res5"].shape == (1, 256, 8, 12)


def test_a_deep_stem_is_of_three_convolutions() -> None:
    stem = ResNet(depth=50, stem="deep", out_features=["res2"]).stem
    shapes = [tuple(conv.weight.shape) for conv in (stem.conv1, stem.conv2, stem.conv3)]
    assert shapes == [(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3)]


def test_non_local_blocks_are_where_they_are_wanted_and_add_nothing_at_first() -> None:
    torch.manual_seed(0)
    model = ResNet(depth=18, width=8, norm="gn", non_local={"res3": [1], "res5": [0, 1]})
    with_blocks = {name for name, module in model.named_modules() if isinstance(module, NonLocal)}
    assert with_blocks == {"res3.1.non_local", "res5.0.non_local", "res5.1.non_local"}
    plain = ResNet(depth=18, width=8, norm="gn")
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "non_local" not in name})
    images = torch.randn(1, 3, 75, 101)
    for name, features in plain(images).items():
        assert torch.equal(model(images)[name], features)


def test_a_non_local_block_attends_to_all_positions() -> None:
    """Against the paper's formula (equation 6), position by position."""
    torch.manual_seed(0)
    block = NonLocal(8)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 8, 3, 5)
    coarse = torch.nn.functional.max_pool2d(x, 2, ceil_mode=True)
    expected = x.clone()
    for row in range(3):
        for column in range(5):
            query = block.theta(x)[0, :, row, column]
            weights = torch.einsum("c,cij->ij", query, block.phi(coarse)[0]).exp()
            mean = (weights / weights.sum() * block.g(coarse)[0]).sum(dim=(1, 2))
            expected[0, :, row, column] += block.out(mean[None, :, None, None])[0, :, 0, 0]
    torch.testing.assert_close(block(x), expected)


def test_deformable_stages_are_those_that_are_named() -> None:
    model = ResNet(depth=50, width=8, deform=["res3", "res5"], modulated=True, deform_groups=2)
    names = {name.removesuffix(".weight") for name in model.state_dict() if name.endswith("offset.weight")}
    assert names == {f"res3.{i}.conv2.offset" for i in range(4)} | {f"res5.{i}.conv2.offset" for i in range(3)}
    assert model.res5[0].conv2.offset.weight.shape == (54, 64, 3, 3)
    assert not model.res5[0].conv2.offset.weight.any()


def test_the_trunk_on_regions_is_the_last_stage() -> None:
    arguments = {"depth": 50, "width": 8, "groups": 2, "width_per_group": 4, "stride_in_1x1": True}
    backbone = ResNet(**arguments).eval()
    trunk = ResNetRes5(input_shapes={"region": Shape(128, 16)}, **arguments).eval()
    assert trunk.output_shapes == {"region": Shape(256, 32)}
    assert ResNetRes5(input_shapes={"res4": Shape(128, 16)}, **arguments).output_shapes == trunk.output_shapes
    trunk.res5.load_state_dict(backbone.res5.state_dict())
    regions = torch.randn(3, 128, 14, 14)
    with torch.no_grad():
        assert torch.equal(trunk(regions), backbone.res5(regions))
    assert trunk(regions).shape == (3, 256, 7, 7)
