"""Detectron2's python configs with RegNet."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from det_detectron2.architectures import ARCHITECTURES, DERIVED
from det_detectron2.config import Detectron2Config
from det_detectron2.lazy import LazyLoader
from detkit.config import build
from detkit.detector import Detector
from detkit.foreign import rename
from detkit.structures.categories import Categories

MODULE = "detectron2.modeling.backbone.regnet"
SMALL = {"depth": 6, "w_a": 8.0, "w_0": 8, "w_m": 2.0, "group_width": 8, "stem_width": 16}
X4GF = {"depth": 23, "w_a": 38.65, "w_0": 96, "w_m": 2.43, "group_width": 40, "stem_width": 32}
Y4GF = {"depth": 22, "w_a": 31.41, "w_0": 96, "w_m": 2.24, "group_width": 64, "stem_width": 32, "se_ratio": 0.25}
STAGES = ["s1", "s2", "s3", "s4"]


def read(folder: Path, **arguments: Any) -> Detectron2Config:
    """The Mask R-CNN of the tests with a RegNet."""
    tree = yaml.load((Path(__file__).parent / "lazy_mask_rcnn.yaml").read_text(), LazyLoader)
    tree["model"]["backbone"]["bottom_up"] = {
        "_target_": "detectron2.modeling.backbone.RegNet",
        "stem_class": f"{MODULE}.SimpleStem",
        "block_class": f"{MODULE}.ResBottleneckBlock",
        "out_features": STAGES,
        **arguments,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return Detectron2Config.read(folder / "config.yaml")


def model_tree(config: Detectron2Config) -> dict[str, Any]:
    return ARCHITECTURES[config.take("MODEL.META_ARCHITECTURE")].tree(config)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({**X4GF, "freeze_at": 2, "norm": "FrozenBN"}, {**X4GF, "se_ratio": 0, "freeze_at": 2, "norm": "frozen_bn"}),
        ({**Y4GF, "norm": "SyncBN"}, {**Y4GF, "freeze_at": 0, "norm": "sync_bn"}),
        ({**Y4GF, "stride": 2, "bottleneck_ratio": 1.0}, {**Y4GF, "freeze_at": 0, "norm": "bn"}),
    ],
)
def test_the_arguments_are_detectron2s(arguments: dict, expected: dict, tmp_path: Path) -> None:
    config = read(tmp_path, **arguments)
    tree = model_tree(config)
    assert config.problems() == []
    assert tree["backbone"] == {"name": "regnet", "out_features": STAGES, **expected}
    assert (tree["neck"]["in_features"], tree["neck"]["top"]) == (STAGES, "pool")


def test_without_a_choice_the_last_stage_is_returned(tmp_path: Path) -> None:
    assert model_tree(read(tmp_path, **SMALL, out_features=None))["backbone"]["out_features"] == ["s4"]


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("stem_class", f"{MODULE}.ResStem", "only SimpleStem has a counterpart"),
        ("block_class", f"{MODULE}.VanillaBlock", "only ResBottleneckBlock has a counterpart"),
        ("bottleneck_ratio", 0.5, "only 1.0 has a counterpart"),
        ("stride", 1, "only 2 has a counterpart"),
        ("activation_class", "torch.nn.SiLU", "only None has a counterpart"),
        ("dropout", 0.1, "(= 0.1) has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_named(argument: str, value: Any, words: str, tmp_path: Path) -> None:
    config = read(tmp_path, **{**SMALL, argument: value})
    model_tree(config)
    (problem,) = config.problems()
    assert problem.startswith(f"model.backbone.bottom_up.{argument}")
    assert problem.endswith(words)


def block(prefix: str, inputs: int, width: int, squeezed: int, *, projected: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays of a block of Detectron2 with groups of 8."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, norm: str, *shape: int) -> None:
        shapes[f"{prefix}.{name}.weight"] = shape
        leaves = ("weight", "bias", "running_mean", "running_var")
        shapes.update({f"{prefix}.{norm}.{leaf}": shape[:1] for leaf in leaves})

    if projected:
        conv("proj", "bn", width, inputs, 1, 1)
    conv("f.a", "f.a_bn", width, inputs, 1, 1)
    conv("f.b", "f.b_bn", width, 8, 3, 3)
    conv("f.c", "f.c_bn", width, width, 1, 1)
    if squeezed:
        shapes[f"{prefix}.f.se.f_ex.0.weight"] = (squeezed, width, 1, 1)
        shapes[f"{prefix}.f.se.f_ex.0.bias"] = (squeezed,)
        shapes[f"{prefix}.f.se.f_ex.2.weight"] = (width, squeezed, 1, 1)
        shapes[f"{prefix}.f.se.f_ex.2.bias"] = (width,)
    return shapes


@pytest.mark.parametrize("se_ratio", [0.0, 0.25])
def test_every_array_has_its_place(se_ratio: float, tmp_path: Path) -> None:
    tree = model_tree(read(tmp_path, **SMALL, norm="FrozenBN", se_ratio=se_ratio))
    for head in tree["heads"].values():
        del head["num_classes"]
    with torch.device("meta"):
        model = build(tree, Detector, categories=Categories.numbered(3))
    shapes: dict[str, tuple[int, ...]] = {"stem.conv.weight": (16, 3, 3, 3)}
    shapes.update({f"stem.bn.{leaf}": (16,) for leaf in ("weight", "bias", "running_mean", "running_var")})
    for name, inputs, width, number in (
        ("s1.b1", 16, 8, 1),
        ("s2.b1", 8, 16, 1),
        ("s3.b1", 16, 32, 1),
        ("s3.b2", 32, 32, 2),
        ("s3.b3", 32, 32, 3),
        ("s4.b1", 32, 64, 1),
    ):
        shapes |= block(name, inputs, width, int(inputs * se_ratio), projected=number == 1)
    for prefix in ("backbone.bottom_up.", "backbone."):  # with and without a pyramid
        arrays = {prefix + name: torch.zeros(shape, device="meta") for name, shape in shapes.items()}
        architecture = ARCHITECTURES["GeneralizedRCNN"]
        renamed, strangers = rename(arrays, architecture.names, (*DERIVED, *architecture.derived))
        assert strangers == []
        own = {name: value.shape for name, value in model.state_dict().items() if name.startswith("backbone.")}
        assert {name: value.shape for name, value in renamed.items()} == own
    assert ("backbone.s1.0.excite.fc2.bias" in own) == (se_ratio > 0)
