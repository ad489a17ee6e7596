import pytest
import torch
import torchvision
from torchvision.models.regnet import BlockParams

from det_backbones.regnet import SIZES, RegNet, stage_widths
from det_backbones.weights import regnet as pretrained
from detkit.foreign import read_foreign_checkpoint
from detkit.plugins import registry
from detkit.structures.shape import Shape
from detkit.testing.modules import unlike_new_norms

SMALL = {"depth": 6, "w_a": 8, "w_0": 8, "w_m": 2, "group_width": 8}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("x_200mf", [(24, 8, 1), (56, 8, 1), (152, 8, 4), (368, 8, 7)]),
        ("x_400mf", [(32, 16, 1), (64, 16, 2), (160, 16, 7), (384, 16, 12)]),
        ("x_4gf", [(80, 40, 2), (240, 40, 5), (560, 40, 14), (1360, 40, 2)]),
        ("x_12gf", [(224, 112, 2), (448, 112, 5), (896, 112, 11), (2240, 112, 1)]),
        ("y_4gf", [(128, 64, 2), (192, 64, 6), (512, 64, 12), (1088, 64, 2)]),
        ("y_8gf", [(168, 56, 2), (448, 56, 4), (896, 56, 10), (2016, 56, 1)]),
    ],
)
def test_stages_are_those_of_the_papers_tables(size: str, expected: list) -> None:
    arguments = {name: value for name, value in SIZES[size].items() if name != "se_ratio"}
    assert stage_widths(**arguments) == expected


def test_the_defaults_are_regnetx_4gf() -> None:
    with torch.device("meta"):
        default, named = RegNet(), RegNet(**SIZES["x_4gf"])
    assert str(default) == str(named)
    assert default.output_shapes == {
        "s1": Shape(80, 4),
        "s2": Shape(240, 8),
        "s3": Shape(560, 16),
        "s4": Shape(1360, 32),
    }


def test_groups_are_not_wider_than_their_stage() -> None:
    assert stage_widths(**{**SMALL, "group_width": 24}) == [(8, 8, 1), (16, 16, 1), (24, 24, 3), (72, 24, 1)]


def test_maps_are_of_the_stages_that_are_asked_for_and_later_ones_are_not_built() -> None:
    model = RegNet(**SMALL, out_features=["s3", "s1"])
    assert model.output_shapes == {"s1": Shape(8, 4), "s3": Shape(32, 16)}
    assert not hasattr(model, "s4")
    maps = model.eval()(torch.zeros(1, 3, 75, 101))
    assert {name: tuple(each.shape) for name, each in maps.items()} == {"s1": (1, 8, 19, 26), "s3": (1, 32, 5, 7)}


def test_squeeze_and_excitation_is_as_wide_as_the_blocks_input_says() -> None:
    model = RegNet(**SMALL, se_ratio=0.25)
    assert [model.s1[0].excite.fc1.out_channels, model.s2[0].excite.fc1.out_channels] == [8, 2]
    assert RegNet(**SMALL).s1[0].excite is None


@pytest.mark.parametrize("size", pretrained.TORCHVISION_REGNETS)
def test_torchvisions_models_have_the_same_arrays(size: str, monkeypatch) -> None:
    monkeypatch.setattr(torchvision.models.regnet, "_regnet", lambda params, *_, **__: params)  # computed from tensors
    params = getattr(torchvision.models, f"regnet_{size}")(weights=None)
    with torch.device("meta"):
        theirs = torchvision.models.RegNet(params)
        ours = RegNet(**SIZES[size])
        ours.load_state_dict(pretrained.from_torchvision(theirs.state_dict()), assign=True)


@pytest.mark.parametrize("se_ratio", [0.0, 0.25])
def test_torchvisions_weights_give_torchvisions_features(se_ratio: float) -> None:
    torch.manual_seed(0)
    arguments = {**SMALL, "se_ratio": se_ratio}
    params = BlockParams.from_init_params(**{**arguments, "se_ratio": se_ratio or None})
    theirs = torchvision.models.RegNet(params, num_classes=3).eval()
    unlike_new_norms(theirs)
    ours = RegNet(**arguments).eval()
    ours.load_state_dict(pretrained.from_torchvision(theirs.state_dict()))
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        features, y = ours(x), theirs.stem(x)
        for number, stage in enumerate(theirs.trunk_output, 1):
            y = stage(y)
            assert y.abs().max() > 0
            torch.testing.assert_close(features[f"s{number}"], y, rtol=1e-4, atol=1e-4)


def pycls_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The arrays of torchvision's RegNet under the names that pycls has for them."""
    renamed = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] == "stem":
            parts[1] = ("conv", "bn")[int(parts[1])]
        elif parts[0] == "fc":
            parts[0] = "head.fc"
        else:
            stage, block = parts[1].removeprefix("block"), int(parts[2].rpartition("-")[2]) + 1
            rest = parts[3:]
            if rest[0] == "proj":
                rest = [("proj", "bn")[int(rest[1])], rest[2]]
            elif rest[1] == "se":
                rest = ["f.se.f_ex", {"fc1": "0", "fc2": "2"}[rest[2]], rest[3]]
            else:
                rest = ["f", rest[1] + ("", "_bn")[int(rest[2])], rest[3]]
            parts = [f"s{stage}", f"b{block}", *rest]
        renamed[".".join(parts)] = value
    return renamed


def test_pyclss_files_give_the_same_arrays(tmp_path) -> None:
    params = BlockParams.from_init_params(**SMALL, se_ratio=0.25)
    state = torchvision.models.RegNet(params, num_classes=3).state_dict()
    file = {"epoch": 99, "model_state": pycls_names(state), "optimizer_state": {"state": {}}, "cfg": "OUT_DIR: /tmp"}
    assert {"stem.bn.bias", "s1.b1.proj.weight", "s1.b1.f.a_bn.bias", "s4.b1.f.se.f_ex.2.bias"} <= set(
        file["model_state"]
    )
    torch.save(file, tmp_path / "RegNet.pyth")
    found = pretrained.from_pycls(read_foreign_checkpoint(tmp_path / "RegNet.pyth"))
    expected = pretrained.from_torchvision(state)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_every_published_file_has_a_name() -> None:
    assert SIZES.keys() == pretrained.PYCLS_REGNETS.keys() > pretrained.TORCHVISION_REGNETS.keys()
    names = {name for name in registry().names("weights") if name.startswith("regnet")}
    files = {"dds": pretrained.PYCLS_REGNETS, "torchvision": pretrained.TORCHVISION_REGNETS}
    assert names == {f"regnet{size.replace('_', '-')}-{source}" for source, sizes in files.items() for size in sizes}
    for name in names:
        assert callable(registry().load("weights", name))
