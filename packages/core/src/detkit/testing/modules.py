"""What every part of a model must do, whatever it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from detkit.config import build
from detkit.fusion import optimize
from detkit.testing.base import KindContract
from detkit.testing.inputs import CATEGORIES, SEMANTIC_CATEGORIES


class ModuleContract(KindContract, contract=True):
    """Tests for components that are torch modules. Contracts for a kind say how to call it."""

    interface: ClassVar[type[nn.Module]]
    wiring: ClassVar[Mapping[str, Any]] = {"categories": CATEGORIES, "semantic_categories": SEMANTIC_CATEGORIES}

    def make(self, spec: Mapping[str, Any]) -> Any:
        """The component that a spec describes, with the same weights every time."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build(spec, self.interface, **self.wiring)

    def answer(self, module: Any, batch: int) -> dict[str, Tensor]:
        """What the component computes in inference for `batch` images, each tensor with `batch` rows."""
        raise NotImplementedError

    def losses(self, module: Any, batch: int) -> dict[str, Tensor]:
        """Scalars that depend on every parameter, for components in training mode."""
        return {name: value.float().square().mean() for name, value in self.answer(module, batch).items()}

    def test_inference_is_deterministic(self, spec: Mapping[str, Any]) -> None:
        """The same input gives the same answer, and torch's global generator is left alone. If it fails: in evaluation
        mode draw nothing, or draw from a generator of your own with a fixed seed."""
        module = self.make(spec).eval()
        with torch.no_grad():
            before = torch.get_rng_state()
            first, second = self.answer(module, 2), self.answer(module, 2)
        assert torch.equal(before, torch.get_rng_state())
        assert_same(second, first)

    def test_batches_of_one_and_two_agree(self, spec: Mapping[str, Any]) -> None:
        """An image's answer does not depend on its neighbours in the batch. If it fails: look for a mean, a maximum or
        a sort over the batch dimension."""
        module = self.make(spec).eval()
        with torch.no_grad():
            alone, both = self.answer(module, 1), self.answer(module, 2)
        assert_same({name: value[:1] for name, value in both.items()}, alone, 1e-3)

    def test_every_parameter_gets_a_gradient(self, spec: Mapping[str, Any]) -> None:
        """In training the losses reach every parameter that wants a gradient. If it fails: the parameter is not used
        (do not create it, or freeze it), or a detach or no_grad cuts it off."""
        module = self.make(spec).train()
        sum(self.losses(module, 2).values()).backward()  # type: ignore[union-attr]
        without = [name for name, each in module.named_parameters() if each.requires_grad and each.grad is None]
        assert not without

    def test_training_waits_for_no_device(self, spec: Mapping[str, Any]) -> None:
        """A training step never reads a tensor on the host: .item(), .tolist(), .nonzero(), indexing with a mask. If it
        fails: use torch.where and fixed capacities with a `valid` mask; read metrics after the step."""
        from detkit.testing.synchronisation import forbid_synchronisation

        module = self.make(spec).train()
        with forbid_synchronisation():
            sum(self.losses(module, 2).values()).backward()  # type: ignore[union-attr]

    def test_state_dict_round_trip(self, spec: Mapping[str, Any]) -> None:
        """A second object with the first one's state dict gives the same answer. If it fails: something that decides
        the answer is neither a parameter, nor a buffer, nor an argument of the constructor."""
        first, second = self.make(spec).eval(), self.make(spec).eval()
        with torch.no_grad():
            for each in first.parameters():
                each.mul_(1.01)
            second.load_state_dict(first.state_dict())
            expected, found = self.answer(first, 1), self.answer(second, 1)
        assert_same(found, expected)

    def test_optimised_it_answers_the_same(self, spec: Mapping[str, Any]) -> None:
        """With its norms folded into convolutions (`detkit.fusion.optimize`) it gives the same answer. If it fails: a
        convolution in an `nn.Sequential` whose norm folds into it is also called by another name; or a module reads
        `norm` or `bias` of a `Conv`, which folding changes."""
        module = self.make(spec).eval().to(memory_format=torch.channels_last)  # alone moves a group norm's last digits
        unlike_new_norms(module)
        with torch.no_grad():
            expected = self.answer(module, 1)
            optimize(module)
            found = self.answer(module, 1)
        assert_same(found, expected, 1e-5, of_largest=True)

    def test_bfloat16_is_finite(self, spec: Mapping[str, Any]) -> None:
        """Under bfloat16 autocast losses are finite. If it fails: compute exponentials, logarithms, sums over many
        elements and box coordinates in float32 (`.float()`, or autocast disabled there)."""
        module = self.make(spec).train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = self.losses(module, 2)
        assert {name for name, value in losses.items() if not value.isfinite().all()} == set()

    def test_builds_on_meta(self, spec: Mapping[str, Any]) -> None:
        """It can be built without memory for its weights. If it fails: the constructor reads values of tensors, or
        creates them on a device of its own choice."""
        with torch.device("meta"):
            module = build(spec, self.interface, **self.wiring)
        assert {each.device.type for each in module.parameters()} <= {"meta"}

    def test_moves_to_the_gpu(self, spec: Mapping[str, Any]) -> None:
        """After .to("cuda") all of its tensors are there. If it fails: register the tensor as a buffer."""
        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device")
        module = self.make(spec).to("cuda")
        state = [*module.parameters(), *module.buffers()]
        assert {each.device.type for each in state} <= {"cuda"}


def unlike_new_norms(module: nn.Module) -> None:
    """Give batch norms statistics and weights like those of trained ones, the same every time."""
    generator = torch.Generator().manual_seed(0)
    state = module.state_dict()
    with torch.no_grad():
        for name, mean in state.items():
            if name.endswith("running_mean"):
                prefix = name.removesuffix("running_mean")
                mean.normal_(std=0.1, generator=generator)
                state[f"{prefix}running_var"].uniform_(0.5, 1.5, generator=generator)
                if f"{prefix}weight" in state:
                    state[f"{prefix}weight"].uniform_(0.5, 1.5, generator=generator)
                    state[f"{prefix}bias"].normal_(std=0.1, generator=generator)


def assert_same(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 0.0, *, of_largest: bool = False
) -> None:
    """Assert that two answers have the same tensors, up to an absolute and relative tolerance, which may be of the
    largest value in each tensor: small ones are often differences of larger ones."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        absolute = tolerance
        if of_largest:
            finite = value[value.isfinite()].double()
            absolute *= max(1.0, float(finite.abs().max())) if len(finite) else 1.0
        try:
            torch.testing.assert_close(found[name], value, rtol=tolerance, atol=absolute, equal_nan=True)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None
