import pytest
import torch
import torchvision

from det_backbones.vgg import VGG
from det_backbones.weights import vgg as pretrained
from detkit.structures.shape import Shape


def test_vgg16_is_thirteen_convolutions_of_stride_16() -> None:
    with torch.device("meta"):
        model = VGG(out_features=["conv3", "conv5"])
    assert model.output_shapes == {"conv3": Shape(256, 4), "conv5": Shape(512, 16)}
    assert [len(stage) for stage in model.children()] == [2, 2, 3, 3, 3]
    assert model.conv5[2].weight.shape == (512, 512, 3, 3)


def test_sides_are_multiples_of_the_largest_stride() -> None:
    assert [VGG(depth=11, width=8, out_features=[name]).divisor for name in ("conv1", "conv3", "conv5")] == [1, 4, 16]


def test_torchvisions_weights_give_torchvisions_features() -> None:
    torch.manual_seed(0)
    layers = torchvision.models.vgg.make_layers(
        [8, 8, "M", 16, 16, "M", *([32] * 3), "M", *([64] * 3), "M", *([64] * 3)]
    )
    state = {f"features.{name}": value for name, value in layers.state_dict().items()}
    ours = VGG(width=8).eval()
    ours.load_state_dict(pretrained.from_torchvision({**state, "classifier.0.weight": torch.zeros(1)}))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = layers(x)
        assert expected.abs().max() > 0
        torch.testing.assert_close(ours(x)["conv5"], expected, rtol=1e-4, atol=1e-5)


def test_caffe2s_blobs_are_named_by_stage_and_convolution() -> None:
    state = VGG(width=8).state_dict()
    blobs = {"fc6_w": torch.zeros(1), "fc8_b": torch.zeros(1), "conv1_1_w_momentum": torch.zeros(1)}
    for name, value in state.items():
        stage, conv, leaf = name.split(".")
        blobs[f"{stage}_{int(conv) + 1}_{leaf[0]}"] = value
    assert {"conv1_1_w", "conv5_3_b"} <= blobs.keys()
    found = pretrained.from_caffe2(blobs)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_models_with_batch_norm_are_refused() -> None:
    with torch.device("meta"):
        state = torchvision.models.vgg11_bn(weights=None).state_dict()
    with pytest.raises(ValueError, match=r"not the arrays of a VGG without batch norm: features\.1"):
        pretrained.from_torchvision(state)
