import http.server
import pickle
import threading
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
    theirs = with_statistics(getattr(torchvision.models, name)(weights=None))
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
    theirs = with_statistics(timm.create_model(name))
    ours = ResNet(**arguments).eval()
    ours.load_state_dict(pretrained.from_timm(theirs.state_dict()))
    assert_same_features(ours, theirs, lambda x: theirs.maxpool(theirs.act1(theirs.bn1(theirs.conv1(x)))))


def with_statistics(model: nn.Module) -> nn.Module:
    """The model with statistics of batch norms that are not those of a new one, in evaluation mode."""
    for key, buffer in model.named_buffers():
        if "running" in key:
            buffer.uniform_(*((-0.1, 0.1) if key.endswith("mean") else (0.5, 1.5)))
    return model.eval()


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


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnext101_64x4d", {"depth": 101, "groups": 64, "width_per_group": 4}),
        ("resnext101_32x8d", {"depth": 101, "groups": 32, "width_per_group": 8}),
        ("wide_resnet50_2", {"depth": 50, "width_per_group": 128}),
        ("wide_resnet101_2", {"depth": 101, "width_per_group": 128}),
    ],
)
def test_larger_models_have_the_same_arrays(name: str, arguments: dict) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(weights=None)
        ours = ResNet(**arguments)
    converted = pretrained.from_torchvision(theirs.state_dict())
    assert {name: each.shape for name, each in converted.items()} == {
        name: each.shape for name, each in ours.state_dict().items()
    }


def test_published_weights_begin_models_that_have_fewer_stages_or_arrays_of_their_own() -> None:
    weights = {name: torch.rand_like(value) for name, value in ResNet(depth=50, width=8).state_dict().items()}
    for arguments in (
        {"norm": "bn"},
        {"out_features": ["res4"]},
        {"deform": ["res4", "res5"], "modulated": True},
        {"non_local": {"res4": [4]}, "output_stride": 8},
    ):
        model = ResNet(depth=50, width=8, **arguments)
        model.load_state_dict(model.fit_weights(weights))
        assert torch.equal(model.res4[1].conv2.weight, weights["res4.1.conv2.weight"])
    model = ResNet(depth=50, width=8, deform=["res4"])
    model.load_state_dict(model.fit_weights(weights))
    assert not model.res4[1].conv2.offset.weight.any()
    trunk = ResNetRes5(input_shapes={"region": Shape(128, 16)}, depth=50, width=8)
    trunk.load_state_dict(trunk.fit_weights(weights))
    assert torch.equal(trunk.res5[2].conv3.weight, weights["res5.2.conv3.weight"])


def test_what_no_stage_can_use_stays_for_the_error_message() -> None:
    model = ResNet(depth=18, width=8, out_features=["res3"])
    assert "res6.0.conv1.weight" in model.fit_weights({"res6.0.conv1.weight": torch.zeros(1)})


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


def test_a_strange_blob_is_an_error() -> None:
    with pytest.raises(ValueError, match="not the arrays of a ResNet: rpn_cls_w"):
        pretrained.from_caffe2({"rpn_cls_w": torch.zeros(1)})


def test_weights_are_downloaded_checked_and_converted(tmp_path, monkeypatch) -> None:
    state = ResNet(depth=50).state_dict()
    folder = tmp_path / "site/MSRA"
    folder.mkdir(parents=True)
    (folder / "R-50.pkl").write_bytes(pickle.dumps(blobs(state), protocol=2))
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object, **keywords: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "site"), **keywords)  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(pretrained, "DETECTRON2", f"http://127.0.0.1:{server.server_port}")
        weights = pretrained.resnet50_msra()
        server.shutdown()
    assert torch.equal(weights["res2.0.conv1.weight"], state["res2.0.conv1.weight"])
