from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.engine.schedules import Constant, Cosine, MultiStep


def test_detectron2_1x_schedule() -> None:
    """SOLVER.STEPS (60000, 80000), WARMUP_ITERS 1000, WARMUP_FACTOR 1/1000."""
    schedule = MultiStep(milestones=[60000, 80000])
    found = [schedule.factor(step, 90000) for step in (0, 500, 999, 1000, 59999, 60000, 79999, 80000, 89999)]
    assert found == pytest.approx([0.001, 0.5005, 0.999001, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_milestones_as_fractions_equal_steps() -> None:
    fractions = MultiStep(milestones=[2 / 3, 8 / 9], warmup=1 / 90)
    steps = MultiStep(milestones=[60000, 80000])
    for step in (0, 400, 59999, 60000, 79999, 80000):
        assert fractions.factor(step, 90000) == steps.factor(step, 90000)


def test_cosine_falls_from_one_to_its_end() -> None:
    schedule = Cosine(end=0.1, warmup=0)
    assert schedule.factor(0, 100) == 1
    assert schedule.factor(50, 100) == pytest.approx(0.55)
    assert schedule.factor(99, 100) == pytest.approx(0.1, abs=1e-3)


def test_warm_up_joins_the_schedule_without_a_jump() -> None:
    schedule = Cosine(warmup=10)
    assert schedule.factor(9, 100) == pytest.approx(schedule.factor(10, 100), rel=0.11)
    assert schedule.factor(10, 100) == pytest.approx(Cosine(warmup=0).factor(10, 100))


def test_constant_stays_the_same_after_its_warm_up() -> None:
    schedule = Constant(warmup=4, warmup_factor=0.2)
    assert [schedule.factor(step, 10) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


@given(
    step=st.integers(0, 999),
    warmup=st.one_of(st.integers(0, 2000), st.floats(0.001, 0.999)),
    schedule=st.sampled_from([Constant, Cosine]),
)
def test_factors_are_between_zero_and_one(step: int, warmup: float, schedule: type) -> None:
    assert 0 <= schedule(warmup=warmup).factor(step, 1000) <= 1


@pytest.mark.parametrize("milestones", [[3, 2], [0], [-1], [0.5, 10], [0.5, 0.5]])
def test_milestones_that_do_not_rise_are_refused(milestones: list[float]) -> None:
    with pytest.raises(ValueError, match=r"rising steps .* are needed"):
        MultiStep(milestones=milestones)


def test_a_warm_up_factor_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match="warmup_factor 2"):
        Constant(warmup_factor=2)
