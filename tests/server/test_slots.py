"""Admission of streams: by number, by address, and by what else refuses one."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfusion.errors import Busy
from server.admission.slots import Slots, network_of


def slots(
    limit: int = 100,
    per_address: int = 100,
    refuses: Callable[[float, float], str | None] = lambda _used, _more: None,
) -> Slots:
    return Slots(limit, per_address, refuses)


def test_files_get_a_slot_beside_live_streams_that_use_up_the_capacity() -> None:
    p = slots(refuses=lambda used, more: "too slow" if more and used + more > 30 else None)
    for k in range(3):
        p.take(k, "127.0.0.1", 10.0)
    with pytest.raises(Busy, match="too slow") as refused:
        p.take(3, "127.0.0.1", 10.0)
    assert refused.value.retry_after_s > 0
    p.take("file", "127.0.0.1", 0.0)
    assert p.release(0) and not p.release(0)
    p.take("again", "127.0.0.1", 10.0)
    assert p.demand == 30


def test_slots_are_counted_in_all_and_by_address_but_not_this_machines() -> None:
    p = slots(limit=6, per_address=2)
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
    p = slots(limit=5, per_address=3)
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
        assert len(p.used) == len(held) and p.demand == len(held)
    assert sum(p.by_network.values()) == len(held)
