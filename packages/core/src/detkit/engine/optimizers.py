"""Optimizers, with parameters in groups of their own learning rate and weight decay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from detkit.interfaces import Backbone, Optimizer

NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,  # batch norm, synchronised batch norm, instance norm
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
)


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    norm_weight_decay: float,
    position_weight_decay: float,
    bias_weight_decay: float | None,
    bias_lr_factor: float,
    lr_factors: Mapping[str, float],
    layer_decay: float | None,
) -> list[dict[str, Any]]:
    """Parameters that need gradients, grouped by learning rate and weight decay; each parameter once.

    Args:
        norm_weight_decay: for the weights and biases of normalisation layers, 0 in Detectron2, and for other vectors
            that are not biases, such as layer scale: gains too, which shrink what they scale if they decay.
        position_weight_decay: for the positions of backbones (`Backbone.positions`).
        bias_weight_decay: for all other biases; None takes `weight_decay`.
        bias_lr_factor: for all biases that are not of normalisation layers; Detectron used 2.
        lr_factors: prefix of parameter names -> factor for them; the longest prefix wins.
        layer_decay: factor from each layer of the backbone (`Backbone.layer_prefixes`) to the one before it, on top of
            the others: layer i of n has `layer_decay ** (n - i)`, what is in no layer 1 (Clark et al., ELECTRA, 2020).

    Raises:
        ValueError: a prefix fits no parameter, no backbone has layers to decay, or there is nothing to train.
    """
    decays = {} if layer_decay is None else _layer_factors(model, layer_decay)
    positions = _positions(model)
    used: set[str] = set()
    seen: set[nn.Parameter] = set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for module_name, module in model.named_modules():
        for short, parameter in module.named_parameters(recurse=False):
            name = f"{module_name}.{short}" if module_name else short
            prefixes = [prefix for prefix in lr_factors if name == prefix or name.startswith(f"{prefix}.")]
            used.update(prefixes)
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            factor = decays.get(name, 1.0) * (lr_factors[max(prefixes, key=len)] if prefixes else 1.0)
            decay = weight_decay
            if name in positions:
                decay = position_weight_decay
            elif isinstance(module, NORMS):
                decay = norm_weight_decay
            elif short == "bias":
                factor *= bias_lr_factor
                decay = weight_decay if bias_weight_decay is None else bias_weight_decay
            elif parameter.ndim < 2:
                decay = norm_weight_decay
            groups[lr * factor, decay].append(parameter)
    if unused := sorted(set(lr_factors) - used):
        raise ValueError(
            f"lr_factors: no parameter's name begins with {', '.join(unused)}; "
            f"the model's parts are {', '.join(name for name, _ in model.named_children())}"
        )
    if not groups:
        raise ValueError("no parameter of the model needs a gradient; there is nothing to train")
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def _backbones(model: nn.Module) -> Iterator[tuple[str, Backbone]]:
    """The prefix of the names of its parameters, and the backbone, of each in the model."""
    for name, module in model.named_modules():
        if isinstance(module, Backbone):
            yield f"{name}." if name else "", module


def _layer_factors(model: nn.Module, layer_decay: float) -> dict[str, float]:
    """Name of each parameter in a layer of a backbone -> factor for its learning rate."""
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay is {layer_decay}; it is a factor above 0 and up to 1, or null")
    factors: dict[str, float] = {}
    for path, backbone in _backbones(model):
        names = [name for name, _ in backbone.named_parameters()]
        for distance, layer in enumerate(reversed(backbone.layer_prefixes()), start=1):
            own = tuple(f"{prefix}." for prefix in layer)
            factors.update({path + name: layer_decay**distance for name in names if f"{name}.".startswith(own)})
    if not factors:
        raise ValueError(
            f"layer_decay is {layer_decay}, but no backbone of this model has layers for it; leave it out, or use "
            "lr_factors={backbone: ...}"
        )
    return factors


def _positions(model: nn.Module) -> set[str]:
    """Names of the parameters that tell positions."""
    return {path + name for path, backbone in _backbones(model) for name in backbone.positions()}


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    Args:
        lr: learning rate, for `train.lr_batch_size` images a step.
        momentum: of the gradients.
        nesterov: look ahead by the momentum.
        weight_decay: L2 penalty on weights and biases.
        norm_weight_decay: on the parameters of normalisation layers and on other gains, such as layer scale, instead.
        position_weight_decay: on the positions of a backbone, such as embeddings, instead.
        bias_weight_decay: on other biases instead; null is `weight_decay`.
        bias_lr_factor: learning rate of other biases, times `lr`.
        lr_factors: prefix of parameter names -> factor for their learning rate, such as {backbone: 0.1}.
        layer_decay: factor for the learning rate from each layer of the backbone to the one before it, on top of the
            others; for backbones with layers, such as ViT (0.7 for ViT-B to 0.9 for ViT-H in ViTDet). Null is none.
    """

    def __init__(
        self,
        *,
        lr: float,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 1e-4,
        norm_weight_decay: float = 0.0,
        position_weight_decay: float = 0.0,
        bias_weight_decay: float | None = None,
        bias_lr_factor: float = 1.0,
        lr_factors: Mapping[str, float] | None = None,
        layer_decay: float | None = None,
    ) -> None:
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self._groups = partial(
            parameter_groups,
            weight_decay=weight_decay,
            norm_weight_decay=norm_weight_decay,
            position_weight_decay=position_weight_decay,
            bias_weight_decay=bias_weight_decay,
            bias_lr_factor=bias_lr_factor,
            lr_factors=lr_factors or {},
            layer_decay=layer_decay,
        )

    def build(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
        """The optimizer for `model`."""
        groups = self._groups(model, lr=lr)
        return torch.optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov, fused=True)


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    Args:
        lr: learning rate, for `train.lr_batch_size` images a step.
        betas: decay of the averages of the gradient and of its square.
        eps: added to the denominator.
        weight_decay: of weights and biases, times the learning rate.
        norm_weight_decay: of the parameters of normalisation layers and of other gains, such as layer scale, instead.
        position_weight_decay: of the positions of a backbone, such as embeddings, instead.
        bias_weight_decay: of other biases instead; null is `weight_decay`.
        bias_lr_factor: learning rate of other biases, times `lr`.
        lr_factors: prefix of parameter names -> factor for their learning rate, such as {backbone: 0.1}.
        layer_decay: factor for the learning rate from each layer of the backbone to the one before it, on top of the
            others; for backbones with layers, such as ViT (0.7 for ViT-B to 0.9 for ViT-H in ViTDet). Null is none.
    """

    def __init__(
        self,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.05,
        norm_weight_decay: float = 0.0,
        position_weight_decay: float = 0.0,
        bias_weight_decay: float | None = None,
        bias_lr_factor: float = 1.0,
        lr_factors: Mapping[str, float] | None = None,
        layer_decay: float | None = None,
    ) -> None:
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self._groups = partial(
            parameter_groups,
            weight_decay=weight_decay,
            norm_weight_decay=norm_weight_decay,
            position_weight_decay=position_weight_decay,
            bias_weight_decay=bias_weight_decay,
            bias_lr_factor=bias_lr_factor,
            lr_factors=lr_factors or {},
            layer_decay=layer_decay,
        )

    def build(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
        """The optimizer for `model`."""
        groups = self._groups(model, lr=lr)
        return torch.optim.AdamW(groups, lr=lr, betas=(self.betas[0], self.betas[1]), eps=self.eps, fused=True)
