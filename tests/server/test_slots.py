"""Who may stream: by number, by address, and by what the engine was measured to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfusion.errors import Busy
from server.admission.slots import Places, network_of
from server.engine.capacity import LOAD, STEP_S, Capacity

STEPS = {1: 0.006, 2: 0.010, 4: 0.018, 8: 0.030, 16: 0.055}


def places(
    most: int = 100, per_address: int = 100, strained: str | None = None, lanes: int = 2
) -> Places:
    return Places(most, per_address, Capacity(lanes, STEPS), lambda: strained)


def test_the_best_batch_is_the_largest_that_is_quick_enough() -> None:
    capacity = Capacity(2, STEPS)
    assert capacity.max_batch == 8 and capacity.windows_per_s == pytest.approx(2 * 8 / 0.030)
    slow = Capacity(1, {1: 2 * STEP_S})
    assert slow.max_batch == 1 and slow.windows_per_s == pytest.approx(1 / (2 * STEP_S))
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


def test_live_streams_are_admitted_up_to_the_measured_capacity_and_files_beside_them() -> None:
    p = places()
    count = 0
    with pytest.raises(Busy, match="windows a second") as refused:
        while True:
            p.take(count, "127.0.0.1", 10.0)
            count += 1
    assert count == int(LOAD * p.capacity.windows_per_s / 10)
    assert refused.value.retry_after_s > 0
    p.take("file", "127.0.0.1", 0.0)
    assert p.release(0) and not p.release(0)
    p.take("again", "127.0.0.1", 10.0)
    assert p.demand == pytest.approx(count * 10)


def test_places_are_counted_in_all_and_by_address_but_not_this_machines() -> None:
    p = places(most=6, per_address=2)
    p.take(1, "192.0.2.7", 0)
    p.take(2, "::ffff:192.0.2.7", 0)
    with pytest.raises(Busy, match=r"192\.0\.2\.7 has 2 streams"):
        p.take(3, "192.0.2.7", 0)
    p.take(3, "192.0.2.8", 0)
    p.release(1)
    p.take(1, "192.0.2.7", 0)
    for k in range(4, 7):
        p.take(k, "127.0.0.1", 0)
    with pytest.raises(Busy, match="all 6 streams"):
        p.take(7, "127.0.0.1", 0)


def test_a_strained_server_takes_nobody() -> None:
    with pytest.raises(Busy, match="out of breath"):
        places(strained="out of breath").take(1, "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a socket", "a socket"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(address: str, network: str | None) -> None:
    assert network_of(address) == network


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_what_is_taken_and_given_back_adds_up(steps: list[tuple[bool, int]]) -> None:
    p = places(most=5, per_address=3)
    held: dict[int, str] = {}
    for taking, who in steps:
        address = f"192.0.2.{who % 2}"
        if not taking:
            assert p.release(who) == (held.pop(who, None) is not None)
        elif who not in held:
            mine = sum(a == address for a in held.values())
            if len(held) < 5 and mine < 3:
                p.take(who, address, 1.0)
                held[who] = address
            else:
                with pytest.raises(Busy):
                    p.take(who, address, 1.0)
        assert len(p.taken) == len(held) and p.demand == len(held)
    assert sum(p.by_network.values()) == len(held)
