"""The classification models of torchvision as backbones."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from det_backbones.bridge import ForeignBackbone, Maps, choose, inspect, layout, name_of

_HEIGHT, _WIDTH = 256, 384  # of the images with which layers' strides are found


class TorchvisionBackbone(ForeignBackbone):
    """A classification model of torchvision without its classifier: `torchvision/NAME`. `init: torchvision/NAME` begins
    from its published weights.

    Args:
        model: its name, such as convnext_tiny.
        out_features: the maps to return, such as stride8, stride16; by default all from stride 4 on. What comes after
            the last is not built.
        frozen_bn: whether batch norms are constants.
        freeze_at: a map, such as stride4: it and all that it is computed from are constants in training.

    Raises:
        ValueError: torchvision has no such model, it takes images of one size alone, or there are no such maps.

    `forward` takes images (B, 3, H, W) whose sides are multiples of `divisor`, the largest stride, and returns
    (B, C, H / stride, W / stride) for each of `out_features`: what the last layer of that stride gives, where layers
    are the model's children, or theirs where a child halves its input more than once.
    """

    def __init__(
        self,
        *,
        model: str,
        out_features: Sequence[str] | None = None,
        frozen_bn: bool = False,
        freeze_at: str = "",
    ) -> None:
        nodes, maps = _plan(model, None if out_features is None else tuple(out_features))
        net = _extractor(_built(model), nodes)
        super().__init__(net, maps, frozen_bn=frozen_bn, freeze_at=freeze_at, title=f"torchvision's {model}")


def weights(*, model: str = "") -> dict[str, Tensor]:
    """torchvision's published weights of a model, downloaded as torchvision does, as the state dict of a
    `TorchvisionBackbone`.

    Args:
        model: "resnet50" for the best that there are, "resnet50.imagenet1k_v1" for these.

    Raises:
        ValueError: torchvision has no such model or weights, or they cannot be downloaded.
    """
    name, _, tag = model.partition(".")
    nodes, _ = _plan(name, None)
    published = models.get_model_weights(name)
    known = {each.name.lower(): each for each in published}
    if tag and tag.lower() not in known:
        raise ValueError(f"torchvision has no weights {model!r}; it has {', '.join(f'{name}.{tag}' for tag in known)}")
    chosen: Any = known[tag.lower()] if tag else published.DEFAULT
    try:
        net = models.get_model(name, weights=chosen)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"the weights of torchvision/{model} cannot be downloaded: {error}") from error
    return {f"net.{key}": value for key, value in _extractor(net, nodes).state_dict().items()}


@functools.cache
def _plan(model: str, out_features: tuple[str, ...] | None) -> tuple[dict[str, str], Maps]:
    """The layers that give the maps, with the maps' names, and what they are."""
    names = models.list_models(module=models)
    if model not in names:
        near = difflib.get_close_matches(model, names, n=5, cutoff=0.4)
        raise ValueError(f"torchvision has no model {model!r}; did you mean: {', '.join(near or names)}?")
    title = f"torchvision's {model}"
    with torch.device("meta"):
        net = _built(model).eval()
        layers = _layers(net, title)
        strides = choose(layers, out_features, title)
        nodes = {layers[stride]: name_of(stride) for stride in strides}
        return nodes, inspect(_extractor(net, nodes), strides, (strides[-1],), title)


def _built(model: str) -> nn.Module:
    """The model on torch's default device, with random weights."""
    try:
        return models.get_model(model)
    except NotImplementedError:  # RegNet's constructor computes its widths with tensors, which "meta" has not
        with torch.device("cpu"):
            net = models.get_model(model)
        return net.to(torch.get_default_device())


def _extractor(net: nn.Module, nodes: dict[str, str]) -> nn.Module:
    extractor: nn.Module = create_feature_extractor(net, nodes, suppress_diff_warning=True)
    return extractor


def _layers(net: nn.Module, title: str) -> dict[int, str]:
    """Stride -> the last layer of this stride, of a network on the meta device."""
    strides: dict[nn.Module, int] = {}

    def note(layer: nn.Module, _: object, output: object) -> None:
        found = layout(output.shape, _HEIGHT, _WIDTH) if isinstance(output, Tensor) else None
        if found:
            strides[layer] = found[0].stride

    hooks = [layer.register_forward_hook(note) for layer in net.modules()]
    try:
        net(torch.empty(1, 3, _HEIGHT, _WIDTH))
    except Exception as error:  # whatever it raises at a size that it does not take
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{title} cannot be a backbone: it does not take images of any size ({problem}); choose another"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    last: dict[int, str] = {}
    _walk(net, "", 1, strides, last)
    return last


def _walk(parent: nn.Module, prefix: str, stride: int, strides: dict[nn.Module, int], last: dict[int, str]) -> int:
    """Note the last layer of each stride among the children of `parent`, whose input has `stride`; that of its output.
    A child that halves its input more than once, or is only a list of layers, is looked into."""
    for name, child in parent.named_children():
        after = strides.get(child)
        if isinstance(child, nn.ModuleList) or (after and after > 2 * stride and list(child.children())):
            stride = _walk(child, f"{prefix}{name}.", stride, strides, last)
        elif after:
            last[after] = f"{prefix}{name}"
            stride = after
    return stride
