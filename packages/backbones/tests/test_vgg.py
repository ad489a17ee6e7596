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


def test_frozen_stages_have_nothing_to_train() -> None:
    model = VGG(depth=11, width=8, freeze_at=2)
    trained = {name for name, stage in model.named_children() if any(p.requires_grad for p in stage.parameters())}
    assert trained == {"conv3", "conv4", "conv5"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 17}, "11, 13, 16 or 19 layers"),
        ({"out_features": ["pool5"]}, "choose from conv1, conv2, conv3, conv4, conv5"),
        ({"out_features": []}, "choose from conv1"),
        ({"freeze_at": 6}, "freeze_at is 6"),
    ],
)
def test_bad_arguments_say_what_is_possible(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VGG(**arguments)


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
def test_torchvisions_models_have_the_same_arrays(depth: int) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, f"vgg{depth}")(weights=None)
        VGG(depth=depth).load_state_dict(pretrained.from_torchvision(theirs.state_dict()), assign=True)


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


def test_published_weights_begin_models_that_have_fewer_stages() -> None:
    weights = {name: torch.rand_like(value) for name, value in VGG(width=8).state_dict().items()}
    model = VGG(width=8, out_features=["conv3"])
    model.load_state_dict(model.fit_weights(weights))
    assert torch.equal(model.conv3[2].weight, weights["conv3.2.weight"])


def test_models_with_batch_norm_are_refused() -> None:
    with torch.device("meta"):
        state = torchvision.models.vgg11_bn(weights=None).state_dict()
    with pytest.raises(ValueError, match=r"not the arrays of a VGG without batch norm: features\.1"):
        pretrained.from_torchvision(state)
