from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from det_backbones.resnet import ResNet, ResNetRes5
from det_backbones.weights import resnet as pretrained
from detkit.structures.shape import Shape
from detkit.testing.modules import unlike_new_norms


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", {"depth": 18}),
        ("resnet50", {"depth": 50}),
        ("resnext50_32x4d", {"depth": 50, "groups": 32, "width_per_group": 4}),
    ],
)
def test_torchvisions_weights_give_torchvisions_features(name: str, arguments: dict) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    unlike_new_norms(theirs)
    ours = ResNet(**arguments).eval()
    ours.load_state_dict(pretrained.from_torchvision(theirs.state_dict()))
    assert_same_features(ours, theirs, lambda x: theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x)))))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("seresnet50", {"depth": 50, "squeeze_excite": True}),
        ("resnet50s", {"depth": 50, "stem": "deep"}),
        ("resnet50c", {"depth": 50, "stem": "deep", "stem_channels": 64}),
    ],
)
def test_timms_weights_give_timms_features(name: str, arguments: dict) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(name).eval()
    unlike_new_norms(theirs)
    ours = ResNet(**arguments).eval()
    ours.load_state_dict(pretrained.from_timm(theirs.state_dict()))
    assert_same_features(ours, theirs, lambda x: theirs.maxpool(theirs.act1(theirs.bn1(theirs.conv1(x)))))


def assert_same_features(ours: ResNet, theirs: nn.Module, stem: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        features = ours(x)
        y = stem(x)
        for number in range(1, 5):
            y = getattr(theirs, f"layer{number}")(y)
            scale = y.abs().max()
            assert scale > 0
            torch.testing.assert_close(features[f"res{number + 1}"] / scale, y / scale, rtol=1e-3, atol=1e-4)


def test_published_weights_begin_a_trunk_on_regions() -> None:
    weights = {name: torch.rand_like(value) for name, value in ResNet(depth=50, width=8).state_dict().items()}
    trunk = ResNetRes5(input_shapes={"region": Shape(128, 16)}, depth=50, width=8)
    trunk.load_state_dict(trunk.fit_weights(weights))
    assert torch.equal(trunk.res5[2].conv3.weight, weights["res5.2.conv3.weight"])


def blobs(depth_state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The arrays of a ResNet as Caffe2 names them."""
    out = {"fc1000_w": np.zeros(3, np.float32), "conv1_w_momentum": np.zeros(3, np.float32)}
    for name, value in depth_state.items():
        if "running" in name:
            continue
        parts = name.split(".")
        if parts[0] == "stem":
            stem = "conv1" if parts[2] == "weight" else "res_conv1"
        else:
            branch = {"shortcut": "1", "conv1": "2a", "conv2": "2b", "conv3": "2c"}[parts[2]]
            stem = f"{parts[0]}_{parts[1]}_branch{branch}"
        leaf = {"weight": "bn_s", "bias": "bn_b"}[parts[-1]] if "norm" in parts else "w"
        out[f"{stem}_{leaf}"] = value.numpy()
    return out


def test_caffe2_blobs_are_all_used_and_their_scale_is_the_norm() -> None:
    model = ResNet(depth=50)
    state = {name: torch.rand(value.shape) for name, value in model.state_dict().items()}
    converted = pretrained.from_caffe2({name: torch.from_numpy(value) for name, value in blobs(state).items()})
    model.load_state_dict(converted)
    scale, shift = model.res3[1].conv2.norm.affine()
    torch.testing.assert_close(scale, state["res3.1.conv2.norm.weight"])
    torch.testing.assert_close(shift, state["res3.1.conv2.norm.bias"])


def test_a_norms_own_statistics_are_kept() -> None:
    found = pretrained.from_caffe2(
        {
            "res_conv1_bn_rm": torch.tensor([1.0]),
            "res_conv1_bn_s": torch.tensor([2.0]),
            "res_conv1_bn_riv": torch.tensor([3.0]),
        }
    )
    assert {name: value.item() for name, value in found.items()} == {
        "stem.conv1.norm.weight": 2,
        "stem.conv1.norm.running_mean": 1,
        "stem.conv1.norm.running_var": 3,
    }


def test_group_norms_have_no_statistics() -> None:
    found = pretrained.from_caffe2({"conv1_gn_s": torch.ones(1), "res3_1_branch2b_gn_b": torch.zeros(1)})
    assert set(found) == {"stem.conv1.norm.weight", "res3.1.conv2.norm.bias"}


def test_arrays_that_have_detkits_names_already_are_taken_as_they_are() -> None:
    """Files that Detectron2's tools have written."""
    found = pretrained.from_caffe2(
        {
            "stem.conv1.norm.running_var": torch.ones(1),
            "stem.conv3.weight": torch.ones(1),
            "stem.conv3.norm.num_batches_tracked": torch.tensor(1),
            "res2.0.shortcut.weight": torch.ones(1),
            "stem.fc.bias": torch.ones(1),
        }
    )
    assert set(found) == {"stem.conv1.norm.running_var", "stem.conv3.weight", "res2.0.shortcut.weight"}
