import pytest
import torch

from det_backbones.resnet import ResNet
from detkit.layers import FrozenBatchNorm


@pytest.mark.parametrize(("freeze_at", "frozen"), [(0, set()), (1, {"stem"}), (3, {"stem", "res2", "res3"})])
def test_frozen_stages_have_nothing_to_train(freeze_at: int, frozen: set[str]) -> None:
    model = ResNet(depth=18, norm="bn", width=16, freeze_at=freeze_at)
    for name, stage in model.named_children():
        assert any(parameter.requires_grad for parameter in stage.parameters()) == (name not in frozen)
        norms = [module for module in stage.modules() if isinstance(module, FrozenBatchNorm)]
        assert bool(norms) == (name in frozen)


def test_the_stride_is_where_the_weights_were_trained_with_it() -> None:
    for in_1x1 in (True, False):
        block = ResNet(depth=50, width=16, stride_in_1x1=in_1x1).res3[0]
        assert (block.conv1.stride, block.conv2.stride) == (((2, 2), (1, 1)) if in_1x1 else ((1, 1), (2, 2)))


def test_stages_after_the_last_wanted_are_not_built() -> None:
    model = ResNet(depth=50, width=16, out_features=["res4"])
    assert not hasattr(model, "res5")
    assert list(model(torch.zeros(1, 3, 64, 64))) == ["res4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 49}, "18, 34, 50, 101 or 152"),
        ({"out_features": ["p2"]}, "choose from res2, res3, res4, res5"),
        ({"freeze_at": 6}, "freeze_at is 6"),
    ],
)
def test_bad_arguments_say_what_is_possible(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(**arguments)
