import pytest
import timm
import torch
from torch import nn

from det_backbones.hrnet import HRNet
from det_backbones.weights import hrnet as pretrained


def random_statistics(model: nn.Module) -> None:
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(*((-0.1, 0.1) if name.endswith("mean") else (0.5, 1.5)))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("hrnet_w18_small_v2", {"width": 18, "modules": (1, 3, 2), "blocks": 2}), ("hrnet_w18", {"width": 18})],
)
def test_timms_weights_give_timms_features(name: str, arguments: dict) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(name, pretrained=False).eval()
    random_statistics(theirs)
    ours = HRNet(**arguments).eval()
    ours.load_state_dict(pretrained.from_timm(theirs.state_dict()))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features = ours(x)
        y = theirs.act1(theirs.bn1(theirs.conv1(x)))
        expected = theirs.stages(theirs.act2(theirs.bn2(theirs.conv2(y))))
    for ours_map, their_map in zip(features.values(), expected, strict=True):
        scale = their_map.abs().max()
        assert scale > 0
        torch.testing.assert_close(ours_map / scale, their_map / scale, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("width", [18, 32, 40, 48])
def test_published_weights_fill_every_width(width: int) -> None:
    with torch.device("meta"):
        theirs = pretrained.from_timm(timm.create_model(f"hrnet_w{width}", pretrained=False).state_dict())
        ours = HRNet(width=width).state_dict()
    assert {name: value.shape for name, value in theirs.items()} == {name: value.shape for name, value in ours.items()}


def test_published_weights_begin_a_model_whose_norms_are_trained() -> None:
    small = {"width": 4, "modules": (1, 1, 1), "blocks": 1}
    weights = {name: torch.rand_like(value) for name, value in HRNet(**small).state_dict().items()}
    model = HRNet(**small, norm="bn")
    model.load_state_dict(model.fit_weights(weights))
    assert torch.equal(model.transition2.weight, weights["transition2.weight"])


def test_an_array_of_something_else_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"not the arrays of an HRNet: layer2\.0\.conv1\.weight"):
        pretrained.from_timm({"layer2.0.conv1.weight": torch.zeros(1)})


def test_maps_are_twice_as_wide_where_they_are_half_as_fine() -> None:
    model = HRNet(width=6, modules=(1, 1, 1), blocks=1).eval()
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, 75, 130))
    assert {name: tuple(each.shape) for name, each in maps.items()} == {
        "res2": (1, 6, 19, 33),
        "res3": (1, 12, 10, 17),
        "res4": (1, 24, 5, 9),
        "res5": (1, 48, 3, 5),
    }


def test_the_coarsest_and_the_finest_map_hear_of_each_other() -> None:
    module = HRNet(width=4, modules=(1, 1, 1), blocks=1).eval().stage4[0]
    maps = [torch.rand(1, 4 * 2**number, 16 // 2**number, 16 // 2**number) for number in range(4)]
    with torch.no_grad():
        before = module(maps)
        finer, coarser = [maps[0] + 1, *maps[1:]], [*maps[:3], maps[3] + 1]
        assert not torch.equal(module(finer)[3], before[3])
        assert not torch.equal(module(coarser)[0], before[0])


def test_numbers_that_make_no_network_are_errors() -> None:
    with pytest.raises(
        ValueError, match=r"modules is \[1, 4\]; give a number of 1 or more for each of stages 2, 3 and 4"
    ):
        HRNet(modules=(1, 4))
    with pytest.raises(ValueError, match="width is 18 and blocks is 0; both must be 1 or more"):
        HRNet(width=18, blocks=0)
