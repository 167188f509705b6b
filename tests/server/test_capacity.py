"""What an engine can do: measured at warm-up, corrected by live steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.capacity import MAX_LOAD, MAX_STEP_S, Capacity

STEPS = {1: 0.006, 2: 0.010, 4: 0.018, 8: 0.030, 16: 0.055}


def test_the_best_batch_is_the_largest_that_is_quick_enough() -> None:
    capacity = Capacity(2, STEPS)
    assert capacity.max_batch == 8 and capacity.windows_per_s == pytest.approx(2 * 8 / 0.030)
    slow = Capacity(1, {1: 2 * MAX_STEP_S})
    assert slow.max_batch == 1 and slow.windows_per_s == pytest.approx(1 / (2 * MAX_STEP_S))
    with pytest.raises(ValueError, match="at least"):
        Capacity(1, {})


@given(st.integers(1, 64))
def test_the_expected_time_lies_between_those_measured(size: int) -> None:
    expected = Capacity(1, STEPS).expected(size)
    below = max((s for b, s in STEPS.items() if b <= size), default=0.0)
    above = min((s for b, s in STEPS.items() if b >= size), default=float("inf"))
    assert below <= expected <= above
    if size in STEPS:
        assert expected == pytest.approx(STEPS[size])


def test_live_steps_correct_what_the_warm_up_measured_and_recover() -> None:
    capacity = Capacity(2, STEPS)
    before = capacity.windows_per_s
    for _ in range(400):
        capacity.observe(4, 2 * STEPS[4], busy=True)
    assert capacity.slowness == pytest.approx(2, rel=0.01) and capacity.max_batch == 2
    assert capacity.windows_per_s == pytest.approx(2 * 2 / (2 * STEPS[2]), rel=0.01)
    for _ in range(800):
        capacity.observe(1, STEPS[1] / 3, busy=False)  # a lane alone says nothing of many
    assert capacity.windows_per_s == pytest.approx(before)


def test_a_machine_that_stood_still_for_a_moment_is_not_slow_and_one_that_stays_slow_is() -> None:
    capacity = Capacity(2, STEPS)
    before = capacity.windows_per_s
    for _ in range(3):
        capacity.observe(4, 60 * STEPS[4], busy=True)
    assert capacity.windows_per_s > 0.93 * before
    for _ in range(1000):
        capacity.observe(4, 10 * STEPS[4], busy=True)
    assert capacity.slowness == pytest.approx(10, rel=0.01)


def test_a_warm_up_on_a_busy_machine_is_not_believed_for_ever() -> None:
    capacity = Capacity(2, {size: 3 * s for size, s in STEPS.items()})
    assert capacity.max_batch == 2
    for _ in range(400):
        capacity.observe(2, STEPS[2], busy=True)
    assert capacity.max_batch == 8
    assert capacity.windows_per_s == pytest.approx(Capacity(2, STEPS).windows_per_s, rel=0.01)
    for _ in range(400):
        capacity.observe(1, STEPS[1], busy=False)
    assert capacity.max_batch == 8
    for _ in range(400):
        capacity.observe(1, 3 * STEPS[1], busy=False)
    assert capacity.slowness == pytest.approx(1, rel=0.01)


def test_live_streams_are_admitted_up_to_the_measured_capacity() -> None:
    capacity = Capacity(2, STEPS)
    admitted = int(MAX_LOAD * capacity.windows_per_s / 10)
    assert capacity.refusal(10.0 * (admitted - 1), 10.0) is None
    assert "windows a second" in str(capacity.refusal(10.0 * admitted, 10.0))
