import copy
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

from det_backbones import timm_bridge, torchvision_bridge
from det_backbones.bridge import layout
from det_backbones.timm_bridge import TimmBackbone
from det_backbones.torchvision_bridge import TorchvisionBackbone
from detkit.layers import FrozenBatchNorm
from detkit.structures.shape import Shape


@pytest.mark.parametrize(
    ("model", "channels"),
    [
        ("resnet18", [64, 128, 256, 512]),
        ("regnet_y_400mf", [48, 104, 208, 440]),
        ("convnext_tiny", [96, 192, 384, 768]),
        ("efficientnet_b0", [24, 40, 112, 1280]),
        ("mobilenet_v2", [24, 32, 96, 1280]),
        ("mobilenet_v3_small", [16, 24, 48, 576]),
        ("shufflenet_v2_x0_5", [24, 48, 96, 1024]),
        ("swin_t", [96, 192, 384, 768]),
        ("vgg11_bn", [256, 512, 512, 512]),
        ("densenet121", [256, 512, 1024, 1024]),
    ],
)
def test_the_last_layer_of_each_stride_is_found_in_torchvisions_models(model: str, channels: list[int]) -> None:
    with torch.device("meta"):
        backbone = TorchvisionBackbone(model=model)
        maps = backbone(torch.empty(2, 3, 64, 96))
    expected = {f"stride{s}": Shape(c, s) for s, c in zip((4, 8, 16, 32), channels, strict=True)}
    assert backbone.output_shapes == expected
    assert {name: each.shape for name, each in maps.items()} == {
        name: (2, shape.channels, 64 // shape.stride, 96 // shape.stride) for name, shape in expected.items()
    }


@pytest.mark.parametrize(
    ("model", "shapes", "divisor"),
    [
        ("resnet18.a1_in1k", {4: 64, 8: 128, 16: 256, 32: 512}, 32),
        ("convnext_atto", {4: 40, 8: 80, 16: 160, 32: 320}, 32),
        ("mobilenetv3_small_050", {4: 8, 8: 16, 16: 24, 32: 288}, 32),
        ("hrnet_w18_small", {4: 128, 8: 256, 16: 512, 32: 1024}, 32),
        ("swin_tiny_patch4_window7_224", {4: 96, 8: 192, 16: 384, 32: 768}, 32),
        ("test_mambaout", {4: 16, 8: 32, 16: 48, 32: 64}, 32),
        ("vit_tiny_patch16_224", {16: 192}, 16),
        ("vit_small_patch14_dinov2", {14: 384}, 14),
        ("shvit_s1", {16: 128, 32: 224, 64: 320}, 64),
        ("test_maxvit", {4: 32, 8: 64, 16: 96, 32: 128}, 160),  # its windows of 5 x 5 fill the map of stride 32
    ],
)
def test_timms_models_have_the_maps_that_they_declare(model: str, shapes: dict[int, int], divisor: int) -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(model=model)
        maps = backbone(torch.empty(2, 3, 2 * divisor, 3 * divisor))
    assert backbone.output_shapes == {f"stride{s}": Shape(channels, s) for s, channels in shapes.items()}
    assert backbone.divisor == divisor
    assert [each.shape for each in maps.values()] == [
        (2, channels, 2 * divisor // stride, 3 * divisor // stride) for stride, channels in shapes.items()
    ]


@pytest.mark.parametrize(("kind", "model"), [(TimmBackbone, "test_mambaout"), (TorchvisionBackbone, "swin_t")])
def test_maps_with_channels_last_are_turned(kind: type, model: str) -> None:
    backbone = kind(model=model, out_features=["stride4", "stride8"]).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps, theirs = backbone(images), backbone.net(images)
    theirs = theirs["stride8"] if isinstance(theirs, dict) else theirs[1]
    assert torch.equal(maps["stride8"], theirs.permute(0, 3, 1, 2))


def test_the_maps_are_those_of_the_library() -> None:
    torch.manual_seed(0)
    images = torch.randn(1, 3, 64, 64)
    ours = TorchvisionBackbone(model="densenet121").eval()
    theirs = torchvision.models.densenet121()
    loaded = theirs.load_state_dict(
        {name.removeprefix("net."): value for name, value in ours.state_dict().items()}, strict=False
    )
    assert not loaded.unexpected_keys
    assert loaded.missing_keys == ["classifier.weight", "classifier.bias"]
    with torch.no_grad():
        torch.testing.assert_close(ours(images)["stride32"], theirs.eval().features(images), rtol=1e-4, atol=1e-5)
    ours = TimmBackbone(model="test_resnet").eval()
    theirs = timm.create_model("test_resnet").eval()
    theirs.load_state_dict({name.removeprefix("net."): v for name, v in ours.state_dict().items()}, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(ours(images)["stride32"], theirs.forward_features(images))


@pytest.mark.parametrize("kind", [TimmBackbone, TorchvisionBackbone])
def test_only_what_is_wanted_is_built_and_no_map_depends_on_the_others(kind: type) -> None:
    model = "resnet18"
    torch.manual_seed(0)
    whole = kind(model=model, out_features=["stride32", "stride2", "stride8", "stride4"]).eval()
    assert list(whole.output_shapes) == ["stride2", "stride4", "stride8", "stride32"]
    part = kind(model=model, out_features=["stride8"]).eval()
    assert part.divisor == 8
    assert not any("layer3" in name or "layer4" in name for name in part.state_dict())
    part.load_state_dict(part.fit_weights(whole.state_dict()))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(part(images)["stride8"], whole(images)["stride8"])


@pytest.mark.parametrize("kind", [TimmBackbone, TorchvisionBackbone])
def test_freezing_holds_what_the_map_is_computed_from(kind: type) -> None:
    backbone = kind(model="resnet18", freeze_at="stride8")
    names = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
    trained = {n: any(p.requires_grad for p in backbone.net.get_submodule(n).parameters()) for n in names}
    assert trained == dict(zip(names, (False, False, False, False, True, True), strict=True))
    assert isinstance(backbone.net.get_submodule("layer2.1.bn2"), FrozenBatchNorm)
    assert type(backbone.net.get_submodule("layer3.0.bn1")) is nn.BatchNorm2d


@pytest.mark.parametrize(
    ("kind", "model"), [(TimmBackbone, "test_efficientnet"), (TorchvisionBackbone, "mobilenet_v3_small")]
)
def test_frozen_batch_norms_are_constants_that_compute_the_same(kind: type, model: str) -> None:
    torch.manual_seed(0)
    backbone = kind(model=model).eval()
    for name, buffer in backbone.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    frozen = kind(model=model, frozen_bn=True)
    frozen.load_state_dict(frozen.fit_weights(backbone.state_dict()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = backbone(images)
        for mode in (True, False):
            for name, each in frozen.train(mode)(images).items():
                torch.testing.assert_close(each, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "model"), [(TimmBackbone, "test_convnext"), (TorchvisionBackbone, "mobilenet_v3_small")]
)
def test_they_are_copied_and_exported(kind: type, model: str) -> None:
    backbone = copy.deepcopy(kind(model=model)).eval()
    images = torch.randn(1, 3, 64, 96)
    program = torch.export.export(backbone, (images,), strict=False)
    with torch.no_grad():
        for name, each in program.module()(images).items():
            torch.testing.assert_close(each, backbone(images)[name])
            torch.testing.assert_close(each, backbone(images.to(memory_format=torch.channels_last))[name])


def test_positions_are_told_apart() -> None:
    assert TimmBackbone(model="test_vit").positions() == ["net.model.pos_embed"]
    tables = TorchvisionBackbone(model="swin_t", out_features=["stride4"]).positions()
    assert tables == [f"net.features.1.{block}.attn.relative_position_bias_table" for block in (0, 1)]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (TimmBackbone, {"model": "resnt18"}, "timm has no model 'resnt18'; did you mean: resnet18, "),
        (TimmBackbone, {"model": "beit_base_patch16_224"}, "does not take images of any size .*doesn't match model"),
        (TimmBackbone, {"model": "legacy_xception"}, "its maps are .* which is not their size divided by 4, 8, 16, 32"),
        (TimmBackbone, {"model": "test_resnet", "out_features": ["res2"]}, "timm's test_resnet has stride2, stride4"),
        (
            TimmBackbone,
            {"model": "test_resnet", "freeze_at": "stem"},
            "freeze_at is 'stem'; the maps of timm's test_resnet",
        ),
        (TorchvisionBackbone, {"model": "convnext_tny"}, "torchvision has no model 'convnext_tny'; did you mean: conv"),
        (TorchvisionBackbone, {"model": "vit_b_32"}, "does not take images of any size .*Expected 224"),
        (TorchvisionBackbone, {"model": "squeezenet1_1"}, "it has no maps of stride 4 or more"),
        (TorchvisionBackbone, {"model": "resnet18", "out_features": []}, r"out_features is \[\]; .* has stride2, "),
    ],
)
def test_what_cannot_be_says_why(kind: type, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"run: pip install det-backbones\[timm\]"):
        TimmBackbone(model="a_model_that_nobody_has_asked_for")


def test_torchvisions_weights_begin_a_backbone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = torchvision.models.resnet18()
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(published.state_dict(), tmp_path / "checkpoints/resnet18-f37072fd.pth")
    for model in ("resnet18", "resnet18.imagenet1k_v1"):
        weights = torchvision_bridge.weights(model=model)
        backbone = TorchvisionBackbone(model="resnet18", frozen_bn=True, out_features=["stride8"])
        backbone.load_state_dict(backbone.fit_weights(weights))
        assert torch.equal(backbone.net.get_submodule("layer2.0.conv1").weight, published.layer2[0].conv1.weight)


def test_timms_weights_begin_a_backbone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = timm.create_model("resnet18")
    torch.save(published.state_dict(), tmp_path / "weights.pth")
    create = timm.create_model
    local = {"file": str(tmp_path / "weights.pth")}
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda *arguments, **options: create(*arguments, **options, pretrained_cfg_overlay=local),
    )
    backbone = TimmBackbone(model="resnet18", frozen_bn=True, out_features=["stride8"])
    backbone.load_state_dict(backbone.fit_weights(timm_bridge.weights(model="resnet18")))
    assert torch.equal(backbone.net.get_submodule("layer2.0.conv1").weight, published.layer2[0].conv1.weight)


def test_weights_that_there_are_not() -> None:
    with pytest.raises(ValueError, match=r"torchvision has no weights 'resnet18\.v9'; it has resnet18\."):
        torchvision_bridge.weights(model="resnet18.v9")
    with pytest.raises(ValueError, match="timm has no weights of seresnet18; it has those of "):
        timm_bridge.weights(model="seresnet18")
    with pytest.raises(ValueError, match="timm has no model ''"):
        timm_bridge.weights()


def test_a_maps_layout_is_read_off_its_shape() -> None:
    assert layout((1, 7, 16, 24), 128, 192) == (Shape(7, 8), False)
    assert layout((1, 16, 24, 7), 128, 192) == (Shape(7, 8), True)
    for shape in ((1, 7, 16, 16), (1, 7, 15, 23), (1, 7, 384), (1, 7, 0, 0), (1, 7, 1, 1)):
        assert layout(shape, 128, 192) is None
