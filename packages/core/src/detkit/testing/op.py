"""The contract of operators that replace a reference implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from detkit.testing.base import ContractBase
from detkit.testing.synchronisation import forbid_synchronisation


class OpContract(ContractBase, contract=True):
    """Tests for one operator. The subclass sets, each function wrapped in `staticmethod`:

    operator    the implementation under test
    reference   what it must agree with
    cases       keyword arguments of both, by the name of the case
    tolerance   absolute and relative, for values and gradients
    needs_host  why it may read tensors on the host; empty if it must not
    """

    operator: ClassVar[Callable[..., Any]]
    reference: ClassVar[Callable[..., Any]]
    cases: ClassVar[Mapping[str, Mapping[str, Any]]]
    tolerance: ClassVar[float] = 1e-5
    needs_host: ClassVar[str] = ""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test over all cases."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", list(self.cases.values()), ids=list(self.cases))

    def test_values_equal_the_reference(self, case: Mapping[str, Any]) -> None:
        """If it fails: compare on the smallest case first; mind half-pixel offsets, ties and empty inputs."""
        found, expected = _tensors(self.operator(**case)), _tensors(self.reference(**case))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=self.tolerance, atol=self.tolerance, equal_nan=True)

    def test_gradients_equal_the_reference(self, case: Mapping[str, Any]) -> None:
        """Gradients of all floating inputs agree with the reference's; where that has none, there is none. If it fails:
        check the backward kernel against torch.autograd.gradcheck in float64."""
        found, expected = self._gradients(self.operator, case), self._gradients(self.reference, case)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=self.tolerance, atol=self.tolerance)

    def test_waits_for_no_device(self, case: Mapping[str, Any]) -> None:
        """Forward and backward never read a tensor on the host. If it fails: see detkit.testing.synchronisation."""
        if self.needs_host:
            pytest.skip(self.needs_host)
        with forbid_synchronisation():
            self._gradients(self.operator, case)

    def _gradients(self, function: Callable[..., Any], case: Mapping[str, Any]) -> dict[str, Tensor]:
        given = {
            name: value.detach().clone().requires_grad_(value.is_floating_point())
            if isinstance(value, Tensor)
            else value
            for name, value in case.items()
        }
        total = [each.sum() for each in _tensors(function(**given)) if each.requires_grad]
        if not total:
            return {}
        torch.stack(total).sum().backward()
        tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
        return {name: value.grad for name, value in tensors.items() if value.grad is not None}


def _tensors(answer: Any) -> Sequence[Tensor]:
    return [answer] if isinstance(answer, Tensor) else [each for each in answer if isinstance(each, Tensor)]
