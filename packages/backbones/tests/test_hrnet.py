import pytest
import timm
import torch

from det_backbones.hrnet import HRNet
from det_backbones.weights import hrnet as pretrained
from detkit.testing.modules import unlike_new_norms


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("hrnet_w18_small_v2", {"width": 18, "modules": (1, 3, 2), "blocks": 2}), ("hrnet_w18", {"width": 18})],
)
def test_timms_weights_give_timms_features(name: str, arguments: dict) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(name, pretrained=False).eval()
    unlike_new_norms(theirs)
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
