from __future__ import annotations

import pytest
import torch
from torch import nn

from detkit.engine.optimizers import SGD, AdamW


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
