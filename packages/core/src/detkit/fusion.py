"""Fusion for inference: what is constant once training is over is computed once. The answers stay the same."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from detkit.layers import Conv, FrozenBatchNorm, frozen_batch_norm


@torch.no_grad()
def optimize(module: nn.Module) -> None:
    """Make a module faster in evaluation mode, in place and for good: batch norms fold into the convolutions before
    them, the weights of convolutions lie in memory pixel by pixel (channels last), and nothing wants gradients.

    A norm folds where it is certain that nothing else uses what it normalises: in `detkit.layers.Conv`, and after a
    plain convolution in an `nn.Sequential` or a traced module (`torch.fx.GraphModule`). Others stay as they are.
    """
    module.eval().requires_grad_(False)
    uses = Counter(child for parent in module.modules() for child in parent._modules.values())
    for part in list(module.modules()):
        if isinstance(part, Conv) and part.norm is not None and _fold(part, part.norm):
            part.norm = None
        for first, second in _successors(part):
            conv = part.get_submodule(first)
            if type(conv) is nn.Conv2d and uses[conv] == 1 and _fold(conv, part.get_submodule(second)):
                part.set_submodule(second, nn.Identity())
    module.to(memory_format=torch.channels_last)


def _successors(module: nn.Module) -> list[tuple[str, str]]:
    """Names of parts, each with that of the one part that takes its output."""
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        return list(pairwise(module._modules))
    if isinstance(module, GraphModule):
        nodes = [node for node in module.graph.nodes if node.op == "call_module"]
        calls = Counter(node.target for node in nodes)
        once = {node: node.target for node in nodes if calls[node.target] == 1}
        inputs = [(node.args[0], name) for node, name in once.items() if node.args]
        return [(once[source], name) for source, name in inputs if source in once and len(source.users) == 1]
    return []


def _fold(conv: nn.Conv2d, norm: nn.Module) -> bool:
    """Fold a norm that follows into the convolution; whether that can be done."""
    affine = _affine(norm)
    if affine is None:
        return False
    scale, shift = affine
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None], requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
    return True


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Scale and shift (C,) of a norm in evaluation mode, None if they depend on what is normalised."""
    # subclasses may do more: timm's have the activation function inside
    if type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm) and norm.running_var is not None:
        norm = frozen_batch_norm(norm)  # type: ignore[arg-type]
    return norm.affine() if isinstance(norm, FrozenBatchNorm) else None
