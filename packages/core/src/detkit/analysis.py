"""What a model costs, part by part: parameters, floating point operations, activations.

Nothing is computed: the model runs on tensors without memory, which have shapes alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from detkit.detector import Detector, evaluating
from detkit.model_directory import build_recipe, find_model, load
from detkit.program import Detect, example_inputs
from detkit.structures.categories import Categories
from detkit.structures.input_spec import padded_size

COUNTED = "convolutions, deformable ones too, matrix products and attention"
NOT_COUNTED = "norms, activation functions, pooling, ROIAlign, interpolation, sorting, non-maximum suppression"
_OWN_SIZE = (480, 640)  # for models that take images as they are: the commonest size in COCO


@dataclass(frozen=True)
class Cost:
    """What one module costs, all that it holds included.

    name: as in `named_modules`; "" is the whole model.
    type: of the module.
    parameters, trainable: numbers, and how many of them want gradients. Statistics of norms are none.
    flops: floating point operations of inference, a multiplication and an addition being two.
    activations: numbers that the operations counted in `flops` give.
    """

    name: str
    type: str
    parameters: int
    trainable: int
    flops: int
    activations: int

    @property
    def depth(self) -> int:
        """0 for the whole model, 1 for its children, ..."""
        return self.name.count(".") + 1 if self.name else 0


@dataclass(frozen=True)
class Analysis:
    """What a model costs for one image.

    image: (height, width) after resizing; padded: as it enters the model.
    costs: of every module, each before what it holds, in the order of the model.
    """

    image: tuple[int, int]
    padded: tuple[int, int]
    costs: Sequence[Cost]

    @property
    def total(self) -> Cost:
        """Of the whole model."""
        return self.costs[0]

    def to_depth(self, depth: int, *, sort: str | None = None) -> list[Cost]:
        """The costs of modules down to this depth; those in the same module from the largest `sort` (a field of `Cost`)
        down, else in the order of the model."""
        kept = [cost for cost in self.costs if cost.depth <= depth]
        if sort is None:
            return kept
        by_name = {cost.name: getattr(cost, sort) for cost in kept}

        def place(cost: Cost) -> list[tuple[int, str]]:
            parts = cost.name.split(".") if cost.name else []
            path = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
            return [(-by_name[name], name) for name in path]

        return sorted(kept, key=place)


def analyze(
    source: Detector | str | Path,
    *,
    size: tuple[int, int] | None = None,
    image_size: tuple[int, int] | None = None,
    categories: Categories | None = None,
    changes: Iterable[str] = (),
) -> Analysis:
    """What a model costs for one image.

    Args:
        source: a model; or a model directory, a run's directory, a recipe's name or YAML file.
        size: of the image (height, width) in pixels after resizing, which is then padded as the model needs; by default
            the largest that the model resizes images to.
        image_size: instead of `size`, that of the image before it is resized as the model's input says.
        categories: the classes of a model from a recipe; see `detkit.load`.
        changes: of a recipe, such as "model.backbone.depth=101".

    Raises:
        ValueError: there is no such model, or an option does not suit it.
    """
    without_memory = FakeTensorMode(allow_non_fake_inputs=True)
    if isinstance(source, Detector):
        model = source
    elif find_model(source) is None:
        with torch.device("meta"):
            model = build_recipe(source, categories, changes)
        with without_memory:
            model.to_empty(device="cpu")
    elif changes := list(changes):
        raise ValueError(f"{source} is a model with weights; only recipes can be changed ({', '.join(changes)})")
    else:
        model = load(source, categories=categories)
    if image_size is not None:
        size = model.input.resized(*image_size)
    size = size or largest_size(model)
    padded = padded_size(*size, model.divisor, model.input.square)
    with without_memory, evaluating(model), torch.no_grad():
        costs = count(model, partial(Detect(model), *example_inputs(model, *padded)))
    return Analysis(size, padded, costs)


def largest_size(model: Detector) -> tuple[int, int]:
    """The largest size (height, width) that the model resizes images to, without padding."""
    given = model.input
    return (given.min_size, given.max_size) if given.min_size else _OWN_SIZE


def count(model: nn.Module, call: Callable[[], Any]) -> list[Cost]:
    """The costs of each module of a model in a call, which runs it."""
    names = {module: name for name, module in model.named_modules()}
    counter = _Counter(names)
    with ExitStack() as hooks, counter:
        for module in names:
            hooks.callback(module.register_forward_pre_hook(counter.enter).remove)
            hooks.callback(module.register_forward_hook(counter.leave, always_call=True).remove)
        call()
    return [
        Cost(
            name,
            type(module).__name__,
            parameters=sum(each.numel() for each in module.parameters()),
            trainable=sum(each.numel() for each in module.parameters() if each.requires_grad),
            flops=_within(counter.flops, name),
            activations=_within(counter.activations, name),
        )
        for module, name in names.items()
    ]


def _within(counts: Mapping[str, int], name: str) -> int:
    """Of a module and all that it holds."""
    return sum(value for own, value in counts.items() if not name or own == name or own.startswith(f"{name}."))


class _Counter(TorchDispatchMode):
    """Adds up what each module does itself, by its name."""

    def __init__(self, names: Mapping[nn.Module, str]) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()
        self.activations: Counter[str] = Counter()
        self._names = names
        self._running = [""]
        self._formulas = {**flop_registry, torch.ops.torchvision.deform_conv2d: _deform_conv_flops}

    def enter(self, module: nn.Module, _: Any) -> None:
        self._running.append(self._names[module])

    def leave(self, *_: Any) -> None:
        self._running.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if formula := self._formulas.get(func._overloadpacket):
            name = self._running[-1]
            self.flops[name] += formula(*args, **(kwargs or {}), out_val=out)
            self.activations[name] += (out if isinstance(out, Tensor) else out[0]).numel()
        return out


def _deform_conv_flops(_: Tensor, weight: Tensor, *args: Any, out_val: Tensor) -> int:
    """As of a plain convolution, without the interpolation."""
    return 2 * out_val.numel() * weight[0].numel()
