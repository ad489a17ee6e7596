from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from detkit.detector import Detector
from detkit.model_directory import save_model
from detkit.plugins import Component, hookimpl, registry
from detkit.structures.categories import Categories
from detkit.transfer import initialise
from detkit.weights import write_weights


def build(*names: str, channels: int = 4) -> Detector:
    from use_toy.colours import ColourDetector

    return ColourDetector(categories=Categories(names), channels=channels)


@pytest.fixture
def source(colours: Detector, tmp_path: Path) -> Path:
    """Classes red, green, blue."""
    return save_model(colours, tmp_path / "source", config={"name": "use/colours"})


def test_rows_of_classes_with_the_same_name_are_reused(colours: Detector, source: Path) -> None:
    model = build("yellow", "blue", "red", "white")
    before = model.head.offsets.weight.clone()
    initialise(model, source)
    assert torch.equal(model.head.offsets.weight[2:4], colours.head.offsets.weight[4:6])
    assert torch.equal(model.head.offsets.weight[4:6], colours.head.offsets.weight[0:2])
    assert torch.equal(model.head.offsets.weight[[0, 1, 6, 7]], before[[0, 1, 6, 7]])


def test_the_background_row_is_kept(colours: Detector, source: Path) -> None:
    model = build("yellow", "blue")
    initialise(model, source)
    assert torch.equal(model.head.scores.weight[-1], colours.head.scores.weight[-1])


def test_everything_else_is_taken_over(colours: Detector, source: Path) -> None:
    model = build("yellow")
    initialise(model, source)
    torch.testing.assert_close(model.backbone.state_dict(), colours.backbone.state_dict(), rtol=0, atol=0)


def test_the_report_says_what_was_re_initialised(source: Path) -> None:
    report = initialise(build("yellow", "blue", "RED", "white"), source)
    assert report.reused == ("blue", "RED")
    assert report.fresh == ("yellow", "white")
    assert "head re-initialised 3 -> 4 classes (2 reused by name: blue, RED), expected" in str(report)


def test_classes_without_a_match_are_all_fresh(source: Path) -> None:
    assert "head re-initialised 3 -> 1 classes (0 reused by name), expected" in str(initialise(build("cat"), source))


def test_equal_classes_are_copied_without_a_word(colours: Detector, source: Path) -> None:
    model = build("red", "green", "blue")
    assert str(initialise(model, source)) == "took over 6 arrays"
    torch.testing.assert_close(model.state_dict(), colours.state_dict(), rtol=0, atol=0)


def test_reordered_classes_follow_their_names(colours: Detector, source: Path) -> None:
    model = build("blue", "red")
    assert "class rows rearranged, 3 -> 2 classes" in str(initialise(model, source))
    assert torch.equal(model.head.scores.weight, colours.head.scores.weight[[2, 0, 3]])


def with_columns(model: Detector) -> Detector:
    """The model with a layer that takes two numbers, and two more of each class."""
    model.head.mix = nn.Linear(2 + 2 * len(model.categories), 5)
    model.head.columns_per_class = {"mix.weight": 2}
    return model


def test_columns_of_classes_with_the_same_name_are_reused() -> None:
    source, model = with_columns(build("red", "green", "blue")), with_columns(build("yellow", "blue", "red", "white"))
    given, before = source.head.mix.weight, model.head.mix.weight.clone()
    initialise(model, source.state_dict(), categories=source.categories)
    found = model.head.mix.weight
    assert torch.equal(found[:, :2], given[:, :2])  # of no class
    assert torch.equal(found[:, 4:6], given[:, 6:8])
    assert torch.equal(found[:, 6:8], given[:, 2:4])
    assert torch.equal(found[:, [2, 3, 8, 9]], before[:, [2, 3, 8, 9]])
    assert torch.equal(model.head.mix.bias, source.head.mix.bias)


def test_rows_and_columns_of_one_array_are_both_reused() -> None:
    """A layer from something of each class to something of each class."""
    source, model = with_columns(build("red", "green")), with_columns(build("blue", "green", "red"))
    for each in (source, model):
        each.head.mix = nn.Linear(2 + 2 * len(each.categories), len(each.categories) + 1)
        each.head.rows_per_class["mix.weight"] = each.head.rows_per_class["mix.bias"] = 1
    given, before = source.head.mix.weight, model.head.mix.weight.clone()
    initialise(model, source.state_dict(), categories=source.categories)
    found = model.head.mix.weight
    known = [0, 1, 4, 5, 6, 7]
    assert torch.equal(found[1:, known], given[[1, 0, 2]][:, [0, 1, 4, 5, 2, 3]])
    assert torch.equal(found[0], before[0])
    assert torch.equal(found[:, 2:4], before[:, 2:4])


def test_columns_that_belong_to_no_class_must_be_as_many() -> None:
    source, model = with_columns(build("red")), with_columns(build("red", "blue"))
    source.head.mix = nn.Linear(7, 5)
    with pytest.raises(ValueError, match=r"head\.mix\.weight \(5, 7\) instead of \(5, 6\)"):
        initialise(model, source.state_dict(), categories=source.categories)


def test_other_shapes_are_an_error_that_lists_them(source: Path) -> None:
    with pytest.raises(ValueError, match="another kind of model") as caught:
        initialise(build("red", channels=8), source)
    assert "backbone.bias (4,) instead of (8,)" in str(caught.value)
    assert "head.offsets.weight (6, 4) instead of (2, 8)" in str(caught.value)


def test_missing_arrays_are_an_error_that_lists_them(colours: Detector) -> None:
    state = colours.state_dict()
    del state["head.scores.bias"]
    with pytest.raises(ValueError, match=r"1 missing: head\.scores\.bias"):
        initialise(build("red", "green", "blue"), state)


def test_a_failed_transfer_changes_nothing(source: Path) -> None:
    model = build("red", channels=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="another shape"):
        initialise(model, source)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_weights_of_a_backbone_alone(colours: Detector, tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "backbone.safetensors"
    write_weights({prefix + name: value for name, value in colours.backbone.state_dict().items()}, path)
    model = build("cat")
    report = initialise(model, path)
    assert torch.equal(model.backbone.weight, colours.backbone.weight)
    assert str(report) == "took over 2 arrays; head begin from random weights, expected"


def test_weights_of_a_family_are_those_of_the_member(colours: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*, model: str) -> dict[str, torch.Tensor]:
        return {name: torch.full_like(value, float(model)) for name, value in colours.backbone.state_dict().items()}

    monkeypatch.setitem(sys.modules, "zoo", SimpleNamespace(load=load))
    family = Component(kind="weights", name="acme/zoo", target="zoo:load", member="model")
    registry().register(SimpleNamespace(detkit_components=hookimpl(lambda: [family])), "acme")
    model = build("cat")
    initialise(model, "acme/zoo/7")
    assert (model.backbone.weight == 7).all()


def test_a_backbone_with_missing_arrays(colours: Detector) -> None:
    with pytest.raises(ValueError, match=r"does not fit the model's backbone; arrays 1 missing: bias"):
        initialise(build("cat"), {"weight": colours.backbone.weight})


def test_a_recipe_has_no_weights_to_start_from(use_toy: Path) -> None:
    with pytest.raises(ValueError, match="use/colours-recipe is not a model with weights"):
        initialise(build("cat"), "use/colours-recipe")
