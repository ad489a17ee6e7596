from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from detkit.config import Config, ConfigError, build
from detkit.interfaces import Backbone
from detkit.plugins import Component, Registry, hookimpl

pytestmark = pytest.mark.usefixtures("sample")


def problems(*overrides: str, source: Any = "sample/first") -> list[str]:
    """What is wrong with a config, as people read it."""
    with pytest.raises(ConfigError) as caught:
        Config.load(source, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_every_default_is_filled_in() -> None:
    tree = Config.load("sample/first").tree
    assert tree["model"] == {
        "name": "sample/detector",
        "backbone": {"name": "sample/plain", "depth": 3, "norm": "gn", "scales": [1.0, 2.0], "weights": None},
        "neck": {"name": "sample/neck", "factor": 4},
        "heads": [{"name": "sample/head", "weight": 2.0}],
        "named": None,
        "sampling": {"count": 64, "fraction": 0.25},
        "input": None,
        "tags": [],
        "mixed": None,
    }
    assert tree["data"] is None
    assert tree["train"]["batch_size"] == 16


def test_what_the_builder_fills_in_may_be_written_out() -> None:
    heads = Config.load("sample/first", ["model.heads.0.num_classes=5"]).tree["model"]["heads"]
    assert heads == [{"name": "sample/head", "num_classes": 5, "weight": 2.0}]


def test_all_problems_are_reported_at_once_with_their_paths() -> None:
    found = problems(
        "model.backbone.depht=3",
        "model.backbone.norm=ln",
        "model.neck=sample/nekc",
        "model.sampling.count=many",
        "model.heads.0.weight=true",
        "train.optimizer={name: sample/sgd, lr: fast}",
        "trian=1",
    )
    assert found == [
        "trian: a config has no such option; did you mean 'train'?",
        "model.backbone.depht: backbone 'sample/plain' has no such option; did you mean 'depth'?",
        "model.backbone.norm: got the text 'ln'; wanted one of 'bn', 'gn'",
        "model.neck.name: no neck is called 'sample/nekc'\n  did you mean: sample/neck?",
        "model.heads.0.weight: got true; wanted a number",
        "model.sampling.count: got the text 'many'; wanted a whole number",
        "train.optimizer.lr: got the text 'fast'; wanted a number",
    ]


def test_the_message_lists_all_problems() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load("sample/first", ["train.steps=x", "data=[]"])
    assert str(caught.value) == (
        "2 problems in sample/first:\n"
        "  data: got a list of 0; wanted text or null\n"
        "  train.steps: got the text 'x'; wanted a whole number or null"
    )


def test_missing_arguments_are_problems() -> None:
    assert problems(source={"model": {"name": "sample/detector"}}) == [
        "model.backbone: is missing; wanted a backbone ({name: ..., its arguments})",
        "train: is missing; wanted a mapping of options",
    ]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("model.backbone={depth: 3, name: null}", "model.backbone.name: got null; wanted the name of a backbone: "),
        ("model.backbone=3", "model.backbone: got 3; wanted a backbone"),
        ("model.backbone=null", "model.backbone: got null; wanted a backbone"),
        ("model.heads=sample/head", "model.heads: got the text 'sample/head'; wanted a list, each a roi_head"),
        ("model.heads=[[]]", "model.heads.0: got a list of 0; wanted a roi_head"),
        (
            "model.named={box: {weight: 1}}",
            "model.named.box.name: got null; wanted the name of a roi_head: ",
        ),
        ("model.named=[]", "model.named: got a list of 0; wanted a mapping, each value a roi_head"),
        ("model.backbone.scales=[1]", "model.backbone.scales: got a list of 1; wanted a list of 2: a number, a number"),
        ("model.backbone.scales=[1, two]", "model.backbone.scales.1: got the text 'two'; wanted a number"),
        ("model.backbone.weights=3", "model.backbone.weights: got 3; wanted a path or null"),
        ("model.backbone.depth=2.0", "model.backbone.depth: got 2.0; wanted a whole number"),
        ("model.sampling=[]", "model.sampling: got a list of 0; wanted a mapping of options"),
        ("model.sampling.fraction=2", "model.sampling: fraction is 2.0; it lies between 0 and 1"),
        ("model.mixed=epoh", "model.mixed: got the text 'epoh'; wanted a whole number or 'epoch' or null"),
        ("model.tags=word", "model.tags: got the text 'word'; wanted a list, each text"),
        ("model.tags=[1]", "model.tags.0: got 1; wanted text"),
        ("train.optimizer.lr_factors={a: b}", "train.optimizer.lr_factors.a: got the text 'b'; wanted a number"),
        ("version=2", "version: got 2; wanted 1"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_wanted(override: str, problem: str) -> None:
    [found] = problems(override)
    assert found.startswith(problem)


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", "1E-3", "+.1e-2"])
def test_numbers_in_scientific_notation_are_numbers(text: str) -> None:
    assert Config.load("sample/first", [f"train.optimizer.lr={text}"]).get("train.optimizer.lr") == 0.001


def test_whole_numbers_serve_as_numbers() -> None:
    found = Config.load("sample/first", ["train.optimizer.lr=1"]).get("train.optimizer.lr")
    assert (found, type(found)) == (1.0, float)


def test_a_name_alone_is_a_component_without_arguments() -> None:
    tree = Config.load("sample/first", ["model.backbone=sample/wide"]).tree
    assert tree["model"]["backbone"]["name"] == "sample/wide"
    assert tree["train"]["schedule"] == {"name": "sample/flat"}


def test_a_member_of_a_family_is_written_after_its_name(sample: Registry) -> None:
    family = Component(kind="backbone", name="zoo/any", target="sample.parts:Plain", member="norm")
    sample.register(SimpleNamespace(detkit_components=hookimpl(lambda: [family])), "zoo")
    for backbone in ("zoo/any/gn", "{name: zoo/any/gn}", "{name: zoo/any, norm: gn}"):
        tree = Config.load("sample/first", [f"model.backbone={backbone}"]).tree
        assert tree["model"]["backbone"]["name"] == "zoo/any"
        assert tree["model"]["backbone"]["norm"] == "gn"
    assert build("zoo/any/gn", Backbone).norm == "gn"
    assert problems("model.backbone={name: zoo/any/gn, norm: bn}") == [
        "model.backbone.name: the name is 'zoo/any/gn' and 'norm' is given too; leave one out"
    ]


def test_options_keep_the_defaults_of_their_argument_not_of_their_class() -> None:
    sampling = Config.load("sample/first", ["model.sampling.fraction=0.5"]).get("model.sampling")
    assert sampling == {"count": 64, "fraction": 0.5}


def test_a_component_of_another_kind_is_refused(sample: Registry) -> None:
    with pytest.raises(ConfigError, match="no backbone is called 'sample/neck'"):
        build({"name": "sample/neck"}, Backbone)


def test_a_narrower_interface_is_kept() -> None:
    from sample.parts import Wide

    with pytest.raises(ConfigError, match="name: backbone 'sample/plain' is not a Wide"):
        build({"name": "sample/plain"}, Wide)
