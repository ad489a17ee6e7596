"""The models of timm (PyTorch Image Models) as backbones."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from det_backbones.bridge import ForeignBackbone, Maps, choose, inspect

# How models that have been trained at one size are told to take any
ANY_SIZE: tuple[Mapping[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


class TimmBackbone(ForeignBackbone):
    """A model of timm without its classifier: `timm/NAME`. `init: timm/NAME` begins from its published weights.

    Args:
        model: its name, such as convnext_tiny or, with a tag of weights, convnext_tiny.fb_in22k.
        out_features: the maps to return, such as stride8, stride16; by default all from stride 4 on. What comes after
            the last is not built, where timm can do without it.
        frozen_bn: whether batch norms are constants.
        freeze_at: a map, such as stride4: it and all that it is computed from are constants in training.

    Raises:
        ValueError: timm is not installed or has no such model, it takes images of one size alone, or there are no such
            maps.

    `forward` takes images (B, 3, H, W) whose sides are multiples of `divisor` (the largest stride of the model, or what
    its windows need), and returns (B, C, H / stride, W / stride) for each of `out_features`. Where several layers have
    the same stride, as in a ViT, the map is the last one's.
    """

    def __init__(
        self,
        *,
        model: str,
        out_features: Sequence[str] | None = None,
        frozen_bn: bool = False,
        freeze_at: str = "",
    ) -> None:
        options, indices, maps = _plan(model, None if out_features is None else tuple(out_features))
        net = _timm().create_model(model, features_only=True, out_indices=indices, **options)
        super().__init__(net, maps, frozen_bn=frozen_bn, freeze_at=freeze_at, title=f"timm's {model}")

    @staticmethod
    def constant_norm(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> nn.Module:
        if type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm):
            return ForeignBackbone.constant_norm(norm)
        constant: nn.Module = _timm().layers.freeze_batch_norm_2d(norm)  # with an activation in it
        return constant


def weights(*, model: str = "") -> dict[str, Tensor]:
    """timm's published weights of a model, downloaded as timm does, as the state dict of a `TimmBackbone`.

    Raises:
        ValueError: timm has no such model or no weights of it, or they cannot be downloaded.
    """
    options, indices, _ = _plan(model, None)
    timm = _timm()
    published = timm.models.get_pretrained_cfg(model)
    if published is None or not published.has_weights:
        raise ValueError(f"timm has no weights of {model}; it has those of {_near(model, pretrained=True)}")
    try:
        net = timm.create_model(model, pretrained=True, features_only=True, out_indices=indices, **options)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"the weights of timm/{model} cannot be downloaded: {error}") from error
    return {f"net.{name}": value for name, value in net.state_dict().items()}


@functools.cache
def _plan(model: str, out_features: tuple[str, ...] | None) -> tuple[Mapping[str, Any], list[int], Maps]:
    """The options that let a model take images of any size, the indices of its features, and what they are."""
    timm, title = _timm(), f"timm's {model}"
    if not timm.is_model(model):
        raise ValueError(f"timm has no model {model!r}; did you mean: {_near(model)}?")
    with torch.device("meta"):
        options, features = _features(model, title)
        last = {each["reduction"]: index for index, each in enumerate(features)}
        strides = choose(last, out_features, title)
        indices = [last[stride] for stride in strides]
        net = timm.create_model(model, features_only=True, out_indices=indices, **options)
        size = timm.models.get_pretrained_cfg(model).input_size[-1]
    divisor = math.lcm(*strides)
    return options, indices, inspect(net, strides, (divisor, math.lcm(divisor, size)), title)


def _features(model: str, title: str) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """The options that let a model take images of any size, and what timm says of each of its maps."""
    problem: Exception | None = None
    for options in ANY_SIZE:
        try:
            return options, _timm().create_model(model, features_only=True, **options).feature_info.info
        except TypeError as error:  # the model does not know the option
            problem = error
        except (AttributeError, RuntimeError, AssertionError) as error:  # it has no maps
            problem = error
            break
    raise ValueError(f"{title} cannot be a backbone: {problem}") from problem


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ValueError("timm is not installed; run: pip install det-backbones[timm]") from error
    return timm


def _near(model: str, *, pretrained: bool = False) -> str:
    """The names of models that look like this one."""
    import difflib

    names = _timm().list_models(pretrained=pretrained)
    return ", ".join(difflib.get_close_matches(model, names, n=5, cutoff=0.4)) or f"{len(names)} others"
