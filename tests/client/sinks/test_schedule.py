"""When live sinks see which face: hops spread out, silence that eases to rest, and back."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.sinks.schedule import EASE_FRAMES, GAP_S, FrameSchedule
from client.stream.events import Frame
from kfusion.coefficients import ARKIT52, VRM
from kfusion.landmarks import INNER_LOWER, NEUTRAL, lip_gap

STEP = 1 / 30
REST = 3 * NEUTRAL + 50
Shown = list[tuple[float, Frame]]


def open_mouth(n: int) -> Frame:
    """A mouth that stands open, in the coordinates of an identity of its own."""
    face = REST.copy()
    face[list(INNER_LOWER), 1] += 30
    vrm = np.zeros(len(VRM), np.float32)
    vrm[0] = 1
    return Frame(n, n / 30, face.astype(np.float32), np.full(len(ARKIT52), 0.5, np.float32), vrm)


def take_all(schedule: FrameSchedule, start: float, seconds: float) -> Shown:
    """All that is taken from ``start`` on, as often as one looks when something is due."""
    shown: Shown = []
    while (now := max(start, schedule.wake_at())) < start + seconds:
        frame = schedule.take(now)
        assert frame is not None
        shown.append((now, frame))
    return shown


def play(schedule: FrameSchedule, hops: int, *, at: float = 10.0, first: int = 0) -> Shown:
    """Frames that come three at a time, each hop when its time has come."""
    shown: Shown = []
    for k in range(hops):
        now = at + 3 * k * STEP
        for n in range(3):
            schedule.put(open_mouth(first + 3 * k + n), now)
        shown += take_all(schedule, now, 3 * STEP)
    return shown


def gaps(shown: Shown) -> NDArray[np.float64]:
    return np.array([lip_gap(frame.points.astype(np.float64)) for _, frame in shown])


def test_the_frames_of_a_hop_are_shown_one_after_the_other() -> None:
    shown = play(FrameSchedule(REST, 3, skips=False), 10)
    assert [frame.n for _, frame in shown] == list(range(30))
    np.testing.assert_allclose(np.diff([t for t, _ in shown]), STEP, atol=1e-9)
    assert all(frame.points is not None and frame.vrm is not None for _, frame in shown)


def test_frames_that_came_late_once_are_in_time_again_after_a_while() -> None:
    schedule = FrameSchedule(REST, 3, skips=True)
    play(schedule, 10)
    late = play(schedule, 1, at=10 + 30 * STEP + 0.1, first=30)
    assert late[0][0] == pytest.approx(10 + 30 * STEP + 0.1)
    after = play(schedule, 60, at=10 + 33 * STEP, first=33)
    delay = [t - 10 - frame.t for t, frame in after]
    assert delay[0] > 0.09 and abs(delay[-1]) < 0.005
    assert schedule.skipped == 0


def test_after_a_while_without_frames_the_mouth_closes_and_stays_closed() -> None:
    schedule = FrameSchedule(REST, 3, skips=False)
    before = play(schedule, 5)
    after = take_all(schedule, before[-1][0], 2.0)
    assert after[0][0] == pytest.approx(before[-1][0] + GAP_S)
    np.testing.assert_allclose(np.diff([t for t, _ in after]), STEP, atol=1e-9)
    opened = gaps(after)
    assert all(a > b for a, b in pairwise(opened[:EASE_FRAMES]))
    last = after[EASE_FRAMES - 1][1]
    np.testing.assert_array_equal(last.points, REST.astype(np.float32))
    assert last.arkit52 is not None and last.vrm is not None
    assert not last.arkit52.any()
    assert {VRM[k] for k in np.flatnonzero(last.vrm)} == {"neutral"}
    assert (opened[EASE_FRAMES:] == opened[EASE_FRAMES - 1]).all()
    assert [f.n for _, f in after] == list(range(15, 15 + len(after)))


def test_of_what_was_missed_only_the_newest_is_shown() -> None:
    schedule = FrameSchedule(REST, 3, skips=True)
    play(schedule, 5)
    lost_until = 10 + 3.0
    take_all(schedule, 10 + 15 * STEP, 2.5)
    for n in range(15, 90):  # three seconds' worth at once
        schedule.put(open_mouth(n), lost_until)
    shown = take_all(schedule, lost_until, 0.2) + play(schedule, 30, at=lost_until + 0.2, first=90)
    real = [(t, f) for t, f in shown if f.n >= 78]
    assert schedule.skipped >= 60
    assert real[0][0] <= lost_until + 0.2 and real[-1][1].n == 179
    assert real[-1][0] - 10 - real[-1][1].t < 0.35  # not three seconds behind


def test_a_file_waits_for_its_time_and_loses_nothing() -> None:
    schedule = FrameSchedule(REST, 3, skips=False)
    for n in range(300):
        schedule.put(open_mouth(n), 5.0)
    shown = take_all(schedule, 5.0, 9.99)
    assert [f.n for _, f in shown] == list(range(300))
    np.testing.assert_allclose([t - f.t for t, f in shown], 5.0)
    assert schedule.skipped == 0


def test_an_hour_away_is_not_made_up_for() -> None:
    schedule = FrameSchedule(REST, 1, skips=False)
    schedule.put(open_mouth(0), 0.0)
    assert schedule.take(0.0) is not None
    taken = 0
    while schedule.take(3600.0) is not None:  # whoever takes was stopped meanwhile
        taken += 1
    assert taken == 1


@given(
    st.lists(
        st.one_of(st.floats(0, 1.5), st.integers(1, 12)),
        max_size=40,
    ),
    st.integers(1, 10),
    st.booleans(),
)
def test_whatever_comes_when_numbers_rise_and_every_frame_is_shown_or_counted(
    events: list[float | int], hop: int, skips: bool
) -> None:
    schedule = FrameSchedule(REST, hop, skips=skips)
    now, n, shown = 0.0, 0, []
    for event in events:
        if isinstance(event, int):
            for _ in range(event):
                schedule.put(open_mouth(n), now)
                n += 1
        else:
            shown += take_all(schedule, now, event)
            now += event
    schedule.finish()
    while not schedule.done:
        now = max(now, schedule.wake_at())
        frame = schedule.take(now)
        assert frame is not None
        shown.append((now, frame))
    assert all(b[1].n > a[1].n for a, b in pairwise(shown))
    assert all(b[0] >= a[0] for a, b in pairwise(shown))
    assert all(f.t == f.n / 30 for _, f in shown)
    if n:
        np.testing.assert_array_equal(shown[-1][1].points, REST.astype(np.float32))
        assert len(shown) >= n - schedule.skipped + EASE_FRAMES
    if not skips:
        assert schedule.skipped == 0
    jumps = np.abs(np.diff(gaps(shown), prepend=30.0 if n else []))
    assert (jumps < 0.4 * 30).all()
