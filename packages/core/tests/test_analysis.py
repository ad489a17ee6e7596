from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

import detkit
from detkit.analysis import Cost, analyze, count
from detkit.cli.main import main
from detkit.config import build
from detkit.detector import Detector
from detkit.model_directory import save_model
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec


class Part(nn.Module):
    """Is called through a method of its own, as heads are."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 10)

    def detect(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4).requires_grad_(False)
        self.grouped = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2, bias=False)
        self.part = Part()

    def forward(self, x: Tensor) -> Tensor:
        return self.part.detect(self.grouped(self.grouped(self.norm(self.conv(x)))))


def costs(module: nn.Module, *inputs: Tensor) -> dict[str, Cost]:
    with torch.no_grad():
        return {cost.name: cost for cost in count(module, lambda: module(*inputs))}


def test_costs_are_those_that_are_counted_by_hand() -> None:
    found = costs(Small(), torch.zeros(2, 3, 8, 8))
    conv = 2 * (2 * 4 * 8 * 8) * (3 * 3 * 3)
    grouped = 2 * (2 * 4 * 4 * 4) * (2 * 3 * 3) + 2 * (2 * 4 * 2 * 2) * (2 * 3 * 3)  # on 8x8, then on 4x4
    linear = 2 * 2 * 4 * 10
    assert found["conv"] == Cost("conv", "Conv2d", 112, 112, conv, 2 * 4 * 64)
    assert found["norm"] == Cost("norm", "BatchNorm2d", 8, 0, 0, 0)
    assert found["grouped"] == Cost("grouped", "Conv2d", 72, 72, grouped, 2 * 4 * (16 + 4))
    assert found["part"] == Cost("part", "Part", 50, 50, linear, 20)
    total = Cost("", "Small", 242, 234, conv + grouped + linear, 512 + 160 + 20)
    assert found[""] == total


def test_deformable_convolutions_and_attention_are_counted() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            offset = x.new_zeros(1, 18, 6, 6)
            x = deform_conv2d(x, offset, torch.zeros(8, 4, 3, 3), padding=1)
            tokens = x.flatten(2).transpose(1, 2)[None]
            return F.scaled_dot_product_attention(tokens, tokens, tokens)

    found = costs(Both(), torch.zeros(1, 4, 6, 6))[""]
    assert found.flops == 2 * (8 * 36) * (4 * 9) + 2 * (2 * 36 * 36 * 8)


@pytest.fixture
def model(toy: None) -> Detector:
    return build({"name": "toy/toy"}, Detector, categories=Categories(("red", "green"))).eval()


@pytest.fixture
def recipe(toy_tree: Callable[..., dict[str, Any]], tmp_path: Path, toy: None) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(toy_tree()))  # JSON is YAML
    return path


def test_a_model_without_memory_costs_as_much_as_a_real_one(model: Detector) -> None:
    found = analyze(model, size=(40, 50))
    assert found.padded == (40, 56)
    with torch.no_grad():
        images = torch.zeros(1, 3, 40, 56, dtype=torch.uint8)
        real = count(model, lambda: model.detect(images, torch.tensor([[40, 56]])))
    assert real == list(found.costs)
    assert found.total.flops > 0
    assert found.total.parameters == sum(each.numel() for each in model.parameters())


def test_the_model_is_left_as_it_was(model: Detector) -> None:
    state = {name: value.clone() for name, value in model.state_dict().items()}
    analyze(model.train())
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_default_size_is_the_largest_that_images_are_resized_to(model: Detector) -> None:
    assert analyze(model).image == (480, 640)  # this one takes images as they are
    model.input = InputSpec(min_size=60, max_size=100)
    assert analyze(model).image == (60, 100)
    assert analyze(model, image_size=(30, 30)).image == (60, 60)


def test_modules_are_sorted_within_their_parents(model: Detector) -> None:
    found = analyze(model)
    assert [cost.name for cost in found.to_depth(0)] == [""]
    assert [cost.name for cost in found.to_depth(1)] == ["", "body", "head"]
    names = [cost.name for cost in found.to_depth(2, sort="activations")]
    assert names[:4] == ["", "body", "body.0", "body.4"]
    assert names[-1] == "head"


def test_a_recipe_needs_no_weights_and_takes_changes(recipe: Path) -> None:
    small, wide = (
        analyze(recipe, categories=Categories.numbered(3), changes=[f"model.width={width}"]).total for width in (8, 16)
    )
    assert small.parameters == 3 * 9 * 8 + 8 + 2 * 8 + 8 * 9 * 8 + 8 + 8 * 7 + 7
    assert wide.flops > 2 * small.flops


def test_a_model_with_weights_cannot_be_changed(model: Detector, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model", config={"name": "toy/toy"})
    assert analyze(tmp_path / "model").total == analyze(model).total
    with pytest.raises(ValueError, match=r"only recipes can be changed \(model\.width=16\)"):
        analyze(tmp_path / "model", changes=["model.width=16"])


def test_the_command_prints_a_table(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(recipe), "--size", "32", "30", "--depth", "1", "--classes", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("one image of 32 x 30 pixels (height x width), padded to 32 x 32")
    assert [line.split()[:3] for line in lines[3:6]] == [
        ["(all)", "ToyDetector", "887"],
        ["body", "Sequential", "824"],
        ["head", "Conv2d", "63"],
    ]
    assert "a multiply-accumulate is 2 FLOP" in lines[-2]


def test_the_command_prints_json(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(recipe), "--json", "--depth", "1", "model.width=16"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [module["name"] for module in found["modules"]] == ["", "body", "head"]
    expected = detkit.analyze(recipe, changes=["model.width=16"]).total
    assert found["modules"][0]["flops"] == expected.flops


def test_the_command_takes_the_size_of_an_image(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (70, 50)).save(tmp_path / "image.png")
    assert main(["analyze", str(recipe), "--image", str(tmp_path / "image.png")]) == 0
    assert "one image of 50 x 70 pixels (height x width), padded to 56 x 72" in capsys.readouterr().out
    assert main(["analyze", str(recipe), "--image", "image.png", "--size", "1", "1"]) == 2
    assert "--size and --image exclude each other" in capsys.readouterr().err
