"""Published weights of all families: their files, whose arrays they are, and the models that they begin."""

import http.server
import pickle
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision

from det_backbones.convnext import ConvNeXt
from det_backbones.detkit_plugin import WEIGHTS
from det_backbones.fbnet import FBNet
from det_backbones.hrnet import HRNet
from det_backbones.mvit import MViT
from det_backbones.regnet import RegNet
from det_backbones.resnet import ResNet
from det_backbones.swin import SwinTransformer
from det_backbones.vgg import VGG
from det_backbones.vit import ViT
from det_backbones.weights import convnext, fbnet, hrnet, mvit, published, regnet, resnet, swin, vgg, vit
from detkit.plugins import registry

RESNET = {"depth": 50, "width": 8}
REGNET = {"depth": 6, "w_a": 8, "w_0": 8, "w_m": 2, "group_width": 8}
FBNET = {"arch": "a_dsmask_tiny", "norm": "frozen_bn"}
HRNET = {"width": 4, "modules": (1, 1, 1), "blocks": 1}
CONVNEXT = {"depths": (1, 2, 4, 1), "dims": (8, 12, 16, 20)}
SWIN = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4)}
MVIT = {"embed_dim": 8, "depths": (1, 2, 1, 2), "image_size": 64, "window": 8}


class Asked(Exception):
    """What has been downloaded instead of a file."""


@pytest.mark.parametrize("name", [name for weights in WEIGHTS.values() for name in weights])
def test_every_name_is_of_a_file_and_publishers_checksums_are_used(name: str, monkeypatch) -> None:
    def ask(url: str, sha256: str | None = None) -> Path:
        raise Asked(url, sha256)

    monkeypatch.setattr(published, "download", ask)
    with pytest.raises(Asked) as asked:
        registry().load("weights", name)()
    url, sha256 = asked.value.args
    assert re.fullmatch(r"https://[\w./-]+\.(?:pth|pyth|pkl)", url)
    assert (sha256 is not None) == ("pytorch" in url)  # torchvision's and timm's
    if name.endswith("-torchvision"):
        assert url in torchvisions_files()


def torchvisions_files() -> set[str]:
    models = torchvision.models
    kinds = (models.get_model_weights(name) for name in models.list_models(module=models))
    return {weights.url for kind in kinds for weights in kind}


def torchvisions(name: str) -> Callable[[], torch.nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None)


def timms(name: str) -> Callable[[], torch.nn.Module]:
    return lambda: timm.create_model(name, pretrained=False)


LONG = (3, 3, 27, 3)
SWINS = {"t": (96, 6, 3), "s": (96, 18, 3), "b": (128, 18, 4)}
RESNETS = {
    "resnext101_64x4d": {"depth": 101, "groups": 64, "width_per_group": 4},
    "resnext101_32x8d": {"depth": 101, "groups": 32, "width_per_group": 8},
    "wide_resnet50_2": {"depth": 50, "width_per_group": 128},
    "wide_resnet101_2": {"depth": 101, "width_per_group": 128},
}
CONVNEXTS = {"tiny": ((3, 3, 9, 3), 96), "small": (LONG, 96), "base": (LONG, 128), "large": (LONG, 192)}
MVITS = {
    "mvitv2_tiny": {},
    "mvitv2_base_cls": {"depths": (2, 3, 16, 3)},
    "mvitv2_large": {"embed_dim": 144, "num_heads": 2, "depths": (2, 6, 36, 4), "expand": "mlp"},
}
VITS = {"vit_b_16": (768, 12, 12), "vit_l_16": (1024, 24, 16)}


@pytest.mark.parametrize(
    ("theirs", "convert", "ours"),
    [
        *((torchvisions(name), resnet.from_torchvision, (ResNet, RESNETS[name])) for name in RESNETS),
        *((torchvisions(f"vgg{depth}"), vgg.from_torchvision, (VGG, {"depth": depth})) for depth in (11, 13, 16, 19)),
        *((timms(f"hrnet_w{width}"), hrnet.from_timm, (HRNet, {"width": width})) for width in (18, 32, 40, 48)),
        *(
            (
                torchvisions(f"convnext_{size}"),
                convnext.from_torchvision,
                (ConvNeXt, {"depths": depths, "dims": [width * 2**stage for stage in range(4)]}),
            )
            for size, (depths, width) in CONVNEXTS.items()
        ),
        *(
            (
                torchvisions(f"swin_{size}"),
                swin.from_torchvision,
                (
                    SwinTransformer,
                    {
                        "embed_dim": width,
                        "depths": (2, 2, third, 2),
                        "num_heads": [heads * 2**stage for stage in range(4)],
                    },
                ),
            )
            for size, (width, third, heads) in SWINS.items()
        ),
        *((timms(name), mvit.from_timm, (MViT, MVITS[name])) for name in MVITS),
        *(
            (torchvisions(name), vit.from_torchvision, (ViT, {"embed_dim": width, "depth": depth, "num_heads": heads}))
            for name, (width, depth, heads) in VITS.items()
        ),
        (timms("vit_huge_patch14_224"), vit.from_timm, (ViT, {"embed_dim": 1280, "depth": 32, "num_heads": 16})),
    ],
)
def test_published_models_have_our_arrays(theirs: Any, convert: Any, ours: tuple[Any, dict[str, Any]]) -> None:
    backbone, arguments = ours
    with torch.device("meta"):
        model = backbone(**arguments)
        weights = model.fit_weights(convert(theirs().state_dict()))
    expected = {name: value.shape for name, value in model.state_dict().items()}
    assert {name: value.shape for name, value in weights.items()} == expected


@pytest.mark.parametrize(
    ("convert", "title"),
    [
        (convnext.from_fair, "a ConvNeXt"),
        (convnext.from_torchvision, "a ConvNeXt"),
        (convnext.from_timm, "a ConvNeXt"),
        (fbnet.from_timm, "an FBNetV3"),
        (fbnet.from_mobile_cv, "an FBNetV3"),
        (hrnet.from_timm, "an HRNet"),
        (mvit.from_fair, "an MViTv2"),
        (mvit.from_timm, "an MViTv2"),
        (regnet.from_torchvision, "a RegNet"),
        (regnet.from_pycls, "a RegNet"),
        (resnet.from_torchvision, "a ResNet"),
        (resnet.from_timm, "a ResNet"),
        (resnet.from_caffe2, "a ResNet"),
        (swin.from_microsoft, "a Swin Transformer"),
        (swin.from_torchvision, "a Swin Transformer"),
        (swin.from_timm, "a Swin Transformer"),
        (vgg.from_torchvision, "a VGG without batch norm"),
        (vgg.from_caffe2, "a VGG without batch norm"),
        (vit.from_timm, "a vision transformer"),
        (vit.from_torchvision, "a vision transformer"),
    ],
)
def test_arrays_of_something_else_are_refused(convert: Any, title: str) -> None:
    with pytest.raises(ValueError, match=rf"^not the arrays of {title}: rpn\.weight, layer7\.bias$"):
        convert({"rpn.weight": torch.zeros(1), "layer7.bias": torch.zeros(1)})


@pytest.mark.parametrize(
    ("backbone", "arguments", "changes"),
    [
        (ResNet, RESNET, {"norm": "bn"}),
        (ResNet, RESNET, {"out_features": ["res4"]}),
        (ResNet, RESNET, {"deform": ["res4", "res5"], "modulated": True}),
        (ResNet, RESNET, {"non_local": {"res4": [4]}, "output_stride": 8}),
        (RegNet, REGNET, {"norm": "bn"}),
        (RegNet, REGNET, {"out_features": ["s2"]}),
        (VGG, {"width": 8}, {"out_features": ["conv3"]}),
        (FBNet, FBNET, {"norm": "bn"}),
        (FBNet, FBNET, {"out_features": ["trunk2"]}),
        (HRNet, HRNET, {"norm": "bn"}),
        (ConvNeXt, CONVNEXT, {"out_features": ["p0", "p2"]}),
        (SwinTransformer, SWIN, {"out_features": ["p1", "p2"]}),
        (MViT, MVIT, {"out_features": ["scale3"]}),
    ],
)
def test_published_weights_begin_models_of_fewer_stages_or_with_arrays_of_their_own(
    backbone: Any, arguments: dict[str, Any], changes: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    classifier = backbone(**arguments).state_dict()
    weights = {name: torch.rand_like(each) for name, each in classifier.items() if not re.match(r"norms?\d?\.", name)}
    model = backbone(**{**arguments, **changes})
    new = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(model.fit_weights(weights))
    state = model.state_dict()
    assert state.keys() & weights.keys()
    assert all(torch.equal(value, weights.get(name, new[name])) for name, value in state.items())


@pytest.mark.parametrize(
    ("backbone", "arguments", "strange"),
    [
        (ResNet, {**RESNET, "out_features": ["res3"]}, "res6.0.conv1.weight"),
        (RegNet, {**REGNET, "out_features": ["s3"]}, "s5.0.conv1.weight"),
        (SwinTransformer, {**SWIN, "out_features": ["p1"]}, "layers.4.blocks.0.norm1.weight"),
        (ConvNeXt, {**CONVNEXT, "out_features": ["p1"]}, "stages.4.0.gamma"),
        (MViT, MVIT, "blocks.6.norm1.weight"),
    ],
)
def test_what_no_stage_can_use_stays_for_the_error_message(
    backbone: Any, arguments: dict[str, Any], strange: str
) -> None:
    assert strange in backbone(**arguments).fit_weights({strange: torch.zeros(1)})


def test_weights_are_downloaded_checked_and_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site/MSRA"
    folder.mkdir(parents=True)
    kernel = np.random.default_rng(0).random((64, 3, 7, 7), dtype=np.float32)
    (folder / "R-50.pkl").write_bytes(pickle.dumps({"conv1_w": kernel, "lr": np.ones(1)}, protocol=2))
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object, **keywords: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "site"), **keywords)  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(resnet, "DETECTRON2", f"http://127.0.0.1:{server.server_port}")
        weights = resnet.resnet50_msra()
        server.shutdown()
    assert {name: value.numpy().tolist() for name, value in weights.items()} == {"stem.conv1.weight": kernel.tolist()}


def test_averaged_weights_of_a_checkpoint_are_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In mobile_cv's, where training kept an average."""
    name = "module.backbone.stages.xif0_0.conv.weight"
    torch.save({"model_ema": {name: torch.ones(1)}, "state_dict": {name: torch.zeros(1)}}, tmp_path / "averaged.pth")
    torch.save({"model_ema": None, "state_dict": {name: torch.zeros(1)}}, tmp_path / "plain.pth")
    for file, expected in (("averaged.pth", 1), ("plain.pth", 0)):
        monkeypatch.setattr(published, "download", lambda *_, file=file: tmp_path / file)
        assert fbnet.fbnetv3_d_mobile_cv() == {"trunk0.0.weight": torch.full((1,), expected)}
