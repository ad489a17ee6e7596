from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from detkit.engine.optimizers import SGD, AdamW
from detkit.interfaces import Backbone
from detkit.structures.shape import Shape


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)
        self.tied = nn.Linear(4, 2)
        self.tied.weight = self.head.weight


def rates(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, tuple[float, float]]:
    """Name of each parameter -> its learning rate and weight decay."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_norms_do_not_decay_as_in_detectron2() -> None:
    model = Model()
    found = rates(SGD(lr=1.0, weight_decay=0.1).build(model, 0.5), model)
    assert found["backbone.1.weight"] == found["backbone.1.bias"] == (0.5, 0.0)
    assert found["backbone.0.weight"] == found["backbone.0.bias"] == found["head.bias"] == (0.5, 0.1)


def test_biases_as_in_detectron() -> None:
    model = Model()
    found = rates(AdamW(lr=1.0, weight_decay=0.1, bias_weight_decay=0.0, bias_lr_factor=2).build(model, 1.0), model)
    assert found["head.bias"] == (2.0, 0.0)
    assert found["backbone.1.bias"] == (1.0, 0.0)


def test_every_parameter_is_there_once() -> None:
    model = Model()
    groups = SGD(lr=1.0).build(model, 1.0).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_frozen_parameters_are_left_out() -> None:
    model = Model()
    model.backbone.requires_grad_(False)
    assert set(rates(SGD(lr=1.0).build(model, 1.0), model)) == {"head.weight", "head.bias", "tied.bias"}


def test_the_longest_prefix_decides_the_learning_rate() -> None:
    model = Model()
    found = rates(SGD(lr=1.0, lr_factors={"backbone": 0.1, "backbone.1": 0.5}).build(model, 1.0), model)
    assert (found["backbone.0.weight"][0], found["backbone.1.weight"][0], found["head.weight"][0]) == (0.1, 0.5, 1.0)


def test_a_prefix_without_parameters_is_an_error_that_names_the_parts() -> None:
    with pytest.raises(ValueError, match=r"begins with back; the model's parts are backbone, head"):
        SGD(lr=1.0, lr_factors={"back": 0.1}).build(Model(), 1.0)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        SGD(lr=1.0).build(Model().requires_grad_(False), 1.0)


class Transformer(Backbone):
    """Three blocks after an embedding; the last block ends in a convolution that belongs to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 4, 4))
        self.embedding = nn.Conv2d(3, 4, 1)
        self.blocks = nn.ModuleList(nn.ModuleDict({"norm": nn.LayerNorm(4), "mlp": nn.Linear(4, 4)}) for _ in range(3))
        self.blocks[2]["residual"] = nn.Conv2d(4, 4, 1)
        self.blocks[2].scale = nn.Parameter(torch.ones(4))
        self.blocks.extend(nn.Linear(4, 4) for _ in range(8))  # "blocks.10" begins like "blocks.1"

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        return {"p2": Shape(4, 1)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"p2": self.embedding(images)}

    def layer_prefixes(self) -> Sequence[Sequence[str]]:
        blocks = [[f"blocks.{i}.norm", f"blocks.{i}.mlp", f"blocks.{i}.scale"] for i in range(3)]
        return [["position", "embedding"], *blocks]

    def positions(self) -> Sequence[str]:
        return ["position"]


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Transformer()
        self.head = nn.Linear(4, 2)


def test_learning_rates_fall_layer_by_layer_as_in_vitdet() -> None:
    # rate ** (blocks + 1 - id): id 0 for positions and patches, i + 1 for block i, blocks + 1 for all else
    model = Detector()
    found = rates(AdamW(lr=1.0, layer_decay=0.5).build(model, 8.0), model)
    expected = {"position": 0.5, "embedding.weight": 0.5, "embedding.bias": 0.5}
    for block, rate in enumerate((1.0, 2.0, 4.0)):
        for name in ("norm.weight", "norm.bias", "mlp.weight", "mlp.bias"):
            expected[f"blocks.{block}.{name}"] = rate
    expected["blocks.2.scale"] = 4.0
    assert {name: found[f"backbone.{name}"][0] for name in expected} == expected
    others = {rate for name, (rate, _) in found.items() if name.removeprefix("backbone.") not in expected}
    assert others == {8.0}


def test_layer_decay_multiplies_with_other_factors() -> None:
    model = Detector()
    found = rates(SGD(lr=1.0, layer_decay=0.5, lr_factors={"backbone": 0.1}, bias_lr_factor=2).build(model, 1.0), model)
    assert found["backbone.blocks.2.mlp.weight"][0] == pytest.approx(0.05)
    assert found["backbone.blocks.2.mlp.bias"][0] == pytest.approx(0.1)
    assert found["head.weight"][0] == 1.0


def test_positions_and_gains_do_not_decay() -> None:
    model = Detector()
    found = rates(AdamW(lr=1.0, weight_decay=0.1).build(model, 1.0), model)
    kept = {name for name, (_, decay) in found.items() if decay == 0 and "norm" not in name}
    assert kept == {"backbone.position", "backbone.blocks.2.scale"}


def test_positions_and_gains_can_decay() -> None:
    model = Detector()
    optimizer = SGD(lr=1.0, weight_decay=0.1, norm_weight_decay=0.2, position_weight_decay=0.3)
    found = rates(optimizer.build(model, 1.0), model)
    assert found["backbone.position"][1] == 0.3
    assert found["backbone.blocks.2.scale"][1] == found["backbone.blocks.2.norm.bias"][1] == 0.2


def test_there_are_as_few_groups_as_there_are_pairs_of_rate_and_decay() -> None:
    model = Detector()
    assert len(AdamW(lr=1.0).build(model, 1.0).param_groups) == 2
    groups = AdamW(lr=1.0, layer_decay=0.5).build(model, 1.0).param_groups
    assert len(groups) == 2 * 3 + 2 + 1


def test_layer_decay_of_a_model_without_layers_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no backbone of this model has layers for it; leave it out"):
        SGD(lr=1.0, layer_decay=0.7).build(Model(), 1.0)


def test_layer_decay_is_a_factor() -> None:
    with pytest.raises(ValueError, match=r"layer_decay is 1\.5; it is a factor above 0 and up to 1"):
        SGD(lr=1.0, layer_decay=1.5).build(Detector(), 1.0)
