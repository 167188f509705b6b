import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.session.playout_clock import PlayoutClock


def test_audio_on_time_is_due_when_it_arrives() -> None:
    clock = PlayoutClock(16_000)
    clock.add(1600, 5.0, silent=False)
    clock.add(1600, 5.1, silent=False)
    assert clock.due(0) == 5.0 and clock.due(2400) == pytest.approx(5.15)


def test_late_audio_moves_the_clock_and_late_silence_does_not() -> None:
    clock = PlayoutClock(1000)
    clock.add(1000, 0.0, silent=False)
    clock.add(500, 7.0, silent=True)
    assert clock.end == 1.5 and clock.due(1200) == pytest.approx(1.2)
    clock.add(1000, 7.0, silent=False)
    assert clock.due(1500) == 7.0 and clock.end == 8.0


def test_an_interrupted_clock_is_free_at_once() -> None:
    clock = PlayoutClock(1000)
    clock.add(9000, 0.0, silent=False)
    clock.interrupt(2.0)
    clock.add(1000, 2.5, silent=False)
    assert clock.due(9000) == 2.5


@given(st.lists(st.tuples(st.integers(0, 4000), st.floats(0, 0.5), st.booleans()), min_size=1))
def test_due_times_never_go_back_and_forgetting_changes_none(
    messages: list[tuple[int, float, bool]],
) -> None:
    clock, now = PlayoutClock(8000), 0.0
    for samples, later, silent in messages:
        now += later
        before = clock.end
        assert clock.end_with(samples, now, silent=silent) >= (before or now)
        clock.add(samples, now, silent=silent)
    if not clock.received:
        return
    middle = clock.received // 2
    positions = range(middle, clock.received, max(1, clock.received // 50))
    times = [clock.due(s) for s in positions]
    assert times == sorted(times)
    clock.forget(middle)
    assert [clock.due(s) for s in positions] == times


def test_a_file_that_goes_on_for_hours_is_no_longer_than_a_minute() -> None:
    clock = PlayoutClock(16_000)
    for k in range(20_000):
        clock.add(320, k / 50, silent=False)
        if k % 50 == 0:
            clock.forget(max(0, (k - 100) * 320))
    assert len(clock.arrivals) < 300 and len(clock.segments) < 300
