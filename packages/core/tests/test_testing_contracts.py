"""The contracts themselves: they refuse to be weakened, and notice what they are there to notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detkit.interfaces import Backbone
from detkit.ops.boxes import box_iou
from detkit.plugins import Component, Registry, hookimpl
from detkit.structures.shape import Shape
from detkit.testing.backbone import BackboneContract
from detkit.testing.base import ContractBase
from detkit.testing.inputs import random_boxes
from detkit.testing.op import OpContract
from detkit.testing.synchronisation import forbid_synchronisation


class Contract(ContractBase, contract=True):
    def test_one(self) -> None:
        """One."""

    def test_two(self) -> None:
        """Two."""


def test_a_replaced_test_is_refused() -> None:
    with pytest.raises(TypeError, match="TestCheat replaces or removes test_one of its contract"):

        class TestCheat(Contract):
            def test_one(self) -> None:
                pass


def test_a_removed_test_is_refused() -> None:
    with pytest.raises(TypeError, match="test_two"):

        class TestCheat(Contract):
            test_two = None  # type: ignore[assignment]


def test_an_excuse_needs_a_reason() -> None:
    with pytest.raises(TypeError, match="test_one"):

        class TestCheat(Contract):
            @pytest.mark.xfail
            def test_one(self) -> None:
                pass


def test_an_excuse_with_a_reason_is_accepted() -> None:
    class TestHonest(Contract):
        @pytest.mark.xfail(reason="the data is not public")
        def test_one(self) -> None:
            super().test_one()

    TestHonest().test_the_contract_is_whole()


def test_a_test_replaced_later_is_noticed() -> None:
    class TestLater(Contract):
        pass

    TestLater.test_one = lambda self: None  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        TestLater().test_the_contract_is_whole()


def test_a_contract_runs_over_everything_that_is_registered(plugins: Registry) -> None:
    components = [Component(kind="backbone", name=f"acme/{name}", target="nowhere:Net") for name in "ab"]
    plugins.register(type("Plugin", (), {"detkit_components": staticmethod(hookimpl(lambda: components))}), "acme")

    class TestAcme(BackboneContract):
        distribution = "acme"
        arguments = {"acme/a": [{"depth": 1}, {"depth": 2}]}

    assert TestAcme.specs() == [{"name": "acme/a", "depth": 1}, {"name": "acme/a", "depth": 2}, {"name": "acme/b"}]
    TestAcme.arguments = {"acme/c": [{}]}
    with pytest.raises(AssertionError, match=r"has acme/c, which acme does not register"):
        TestAcme.specs()


def test_a_contract_runs_over_some_components_of_another_distribution(plugins: Registry) -> None:
    components = [Component(kind="backbone", name=f"acme/{name}", target="nowhere:Net") for name in "ab"]
    plugins.register(type("Plugin", (), {"detkit_components": staticmethod(hookimpl(lambda: components))}), "acme")

    class TestPartsOfOurs(BackboneContract):
        distribution = "acme"
        names = ["acme/b"]
        arguments = {"acme/b": [{"part": {"name": "ours/part"}}]}

    assert TestPartsOfOurs.specs() == [{"name": "acme/b", "part": {"name": "ours/part"}}]
    TestPartsOfOurs.names = ["acme/c"]
    with pytest.raises(AssertionError, match=r"names has acme/c, which acme does not register"):
        TestPartsOfOurs.specs()


class Net(Backbone):
    """A backbone with one fault of each sort that it is asked for.

    Args:
        fault: which.
    """

    def __init__(self, *, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.conv = nn.Conv2d(3, 8, 4, stride=4)
        self.unused = nn.Parameter(torch.zeros(1)) if fault == "unused" else None
        self.hidden = [float(torch.rand(())) + 1.0] if fault == "hidden" else [1.0]

    @property
    def output_shapes(self) -> dict[str, Shape]:
        return {"c2": Shape(9 if self.fault == "shape" else 8, 4)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.conv(images) * self.hidden[0]
        if self.fault == "batch":
            x = x - x.mean()
        if self.fault == "random":
            x = x + torch.rand(())
        if self.fault == "item" and x.sum().item() > 0:
            x = x + 1
        if self.fault == "overflow":
            x = x.float().exp().exp()
        return {"c2": x}


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        ("shape", "test_maps_have_the_declared_shapes"),
        ("batch", "test_batches_of_one_and_two_agree"),
        ("random", "test_inference_is_deterministic"),
        ("unused", "test_every_parameter_gets_a_gradient"),
        ("item", "test_training_waits_for_no_device"),
        ("overflow", "test_bfloat16_is_finite"),
    ],
)
def test_each_fault_of_a_backbone_is_noticed(fault: str, test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = BackboneContract()
    monkeypatch.setattr(contract, "make", lambda spec: _seeded(lambda: Net(**spec)), raising=False)
    getattr(contract, test)({})
    with pytest.raises(AssertionError):
        getattr(contract, test)({"fault": fault})


def _seeded(make: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    module = make()
    if module.fault == "overflow":
        nn.init.constant_(module.conv.bias, 10.0)
    return module


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).any()),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.nonzero(),
        lambda x: torch.where(x > 0),
        lambda x: x[x > 0],
        lambda x: x.__setitem__(x > 0, torch.ones(2)),
        lambda x: x.masked_select(x > 0),
        lambda x: x.unique(),
        lambda x: torch.bincount(x.long()),
        lambda x: torch.equal(x, x),
        lambda x: x.repeat_interleave(x.long()),
    ],
)
def test_reading_a_tensor_on_the_host_is_refused(read: Callable[[Tensor], Any]) -> None:
    with (
        forbid_synchronisation(),
        pytest.raises(AssertionError, match=r"the device is waited for: .*\n  .*test_testing_contracts"),
    ):
        read(torch.tensor([0.0, 1.0, 2.0]))


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: torch.where(x > 0, x, 0).sum(),
        lambda x: x[torch.tensor([1, 0])],
        lambda x: x[1:] + x.shape[0],
        lambda x: x.repeat_interleave(torch.tensor([1, 1, 1]), output_size=3),
        lambda x: x.masked_fill(x > 0, 1.0).topk(2),
    ],
)
def test_computing_without_reading_is_allowed(compute: Callable[[Tensor], Any]) -> None:
    with forbid_synchronisation():
        compute(torch.tensor([0.0, 1.0, 2.0]))


def _iou_by_hand(a: Tensor, b: Tensor) -> Tensor:
    low, high = (
        torch.maximum(a[..., :, None, :2], b[..., None, :, :2]),
        torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:]),
    )
    overlap = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = ((x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b))
    return overlap / (area_a[..., :, None] + area_b[..., None, :] - overlap)


class TestBoxIou(OpContract):
    operator = staticmethod(box_iou)
    reference = staticmethod(_iou_by_hand)
    cases = {"some": {"a": random_boxes(2, 4), "b": random_boxes(2, 5, seed=4)}}


def test_a_wrong_operator_is_noticed() -> None:
    class TestWrong(TestBoxIou):
        operator = staticmethod(lambda a, b: _iou_by_hand(a, b) * 1.01)

    contract = TestWrong()
    for test in (contract.test_values_equal_the_reference, contract.test_gradients_equal_the_reference):
        with pytest.raises(AssertionError):
            test(contract.cases["some"])
