from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detkit.config import Config, ConfigError, build
from detkit.detector import Detector
from detkit.interfaces import Backbone, RoiHead
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.shape import Shape

pytestmark = pytest.mark.usefixtures("sample")

THREE = Categories(("a", "b", "c"))


def model(*overrides: str) -> Any:
    return Config.load("sample/first", overrides).build("model", categories=THREE)


def test_values_arrive_as_python_types() -> None:
    built = model("model.backbone.weights=a/b", "model.input={min_size: 300, max_size: 500}")
    assert built.backbone.scales == (1.0, 2.0)
    assert built.backbone.weights == Path("a/b")
    assert built.input == InputSpec(min_size=300, max_size=500)
    assert (built.sampling.count, built.sampling.fraction) == (64, 0.25)


def test_shapes_flow_from_part_to_part() -> None:
    built = model()
    assert built.neck.input_shapes == {"c2": Shape(3, 4), "c3": Shape(3, 8)}
    assert built.heads[0].input_shapes == {"c2": Shape(12, 4), "c3": Shape(12, 8)}


def test_without_a_neck_the_heads_see_the_backbone() -> None:
    assert model("model.neck=null").heads[0].input_shapes["c2"] == Shape(3, 4)


def test_classes_flow_from_the_dataset() -> None:
    built = model("model.named={box: sample/head}")
    assert built.categories is THREE
    assert built.heads[0].num_classes == built.named["box"].num_classes == 3


def test_what_is_written_out_wins() -> None:
    built = model("model.heads.0.num_classes=7", "model.neck.input_shapes={x: {channels: 1, stride: 2}}")
    assert built.heads[0].num_classes == 7
    assert built.neck.input_shapes == {"x": Shape(1, 2)}


def test_the_same_object_as_in_python() -> None:
    from sample.parts import Plain

    built = build({"name": "sample/plain", "depth": 4}, Backbone)
    assert type(built) is Plain
    assert vars(built).keys() == vars(Plain(depth=4)).keys()
    assert (built.depth, built.norm) == (4, "bn")


def test_a_model_section_builds_on_its_own() -> None:
    spec = Config.load("sample/first").tree["model"]
    assert isinstance(build(spec, Detector, categories=THREE), Detector)


def test_parts_of_a_config_can_be_built() -> None:
    config = Config.load("sample/first")
    assert config.build("model.backbone").depth == 3
    assert config.build("train").optimizer.lr == 0.001
    [head] = config.build("model.heads", input_shapes={"x": Shape(1, 2)}, categories=THREE)
    assert head.weight == 2.0


def test_what_a_constructor_refuses_is_reported_at_its_path() -> None:
    with pytest.raises(ConfigError) as caught:
        model("model.backbone.depth=0")
    assert str(caught.value) == "model.backbone: depth is 0; it must be at least 1"


def test_options_that_exclude_each_other_are_reported_at_their_path() -> None:
    with pytest.raises(ConfigError, match=r"^train: steps is 10 and epochs is 2.0"):
        Config.load("sample/first", ["train={steps: 10, epochs: 2}"]).build("train")


def test_nothing_to_wire_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"^input_shapes: nothing here gives the shapes of the feature maps"):
        build({"name": "sample/head"}, RoiHead)
