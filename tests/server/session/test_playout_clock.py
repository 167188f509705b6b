import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.session.playout_clock import PlayoutClock


def test_late_audio_moves_the_clock_and_late_silence_does_not() -> None:
    clock = PlayoutClock(1000)
    clock.add(1000, 0.0, silent=False)
    clock.add(500, 7.0, silent=True)
    assert clock.end == 1.5 and clock.due(1200) == pytest.approx(1.2)
    clock.add(1000, 7.0, silent=False)
    assert clock.due(1500) == 7.0 and clock.end == 8.0


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
