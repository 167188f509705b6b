"""What is to be sent, and sent again. The session machine checks the same through a session."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kfusion import wire
from kfusion.landmarks import NEUTRAL_IDENTITY
from server.session.history import HISTORY, MAX_HISTORY
from server.session.outbox import MAX_RANGES, DroppedFrames, Outbox
from server.session.rendering import FrameChunk, Rendering

RENDERING = Rendering(NEUTRAL_IDENTITY)


def fill(outbox: Outbox, first: int, count: int) -> None:
    outbox.put_frames(FrameChunk(first, np.zeros((count, 68, 2), np.float32), RENDERING))


def read(outbox: Outbox, count: int = 10_000) -> list[Any]:
    """So many messages: the numbers of frames, all else as it is."""
    read: list[Any] = []
    while len(read) < count and (text := outbox.pop(0)) is not None:
        message = wire.parse_server(str(text))
        read.append(message.n if isinstance(message, wire.Frame) else message)
    return read


def test_nine_hundred_frames_come_again_and_older_ones_are_announced() -> None:
    outbox = Outbox("json")
    for n in range(3, 1203, 3):
        fill(outbox, n - 3, 3)
        outbox.put(wire.MarkReached("m", n))
    read(outbox)
    outbox.rewind(100)
    dropped, *again = read(outbox)
    assert dropped == wire.Dropped(100, 200, "resume")
    assert [n for n in again if isinstance(n, int)] == list(range(300, 1200))
    assert [m.n for m in again if isinstance(m, wire.MarkReached)] == list(range(300, 1201, 3))
    assert (outbox.sent, outbox.total_dropped, outbox.written) == (1000, 200, 2100)
    assert outbox.history.frames == HISTORY


def test_replies_are_remembered_within_a_bound() -> None:
    outbox = Outbox("json")
    fill(outbox, 0, 5)
    for _ in range(3 * MAX_HISTORY):
        outbox.put(wire.EmotionSet({}, 5, 0.0))
    read(outbox)
    assert len(outbox.history.items) == MAX_HISTORY
    outbox.rewind(2)
    assert read(outbox, 1) == [wire.Dropped(2, 3, "resume")]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=30))
def test_ranges_of_dropped_frames_are_a_set(ranges: list[tuple[int, int]]) -> None:
    dropped = DroppedFrames()
    expected: set[int] = set()
    for first, count in ranges:
        new = set(range(first, first + count)) - expected
        assert dropped.add(first, first + count, "overload") == len(new)
        expected |= new
        assert sum(dropped.by_reason.values()) == len(expected)
        assert dropped.within(10, 30) == len(expected & set(range(10, 30)))


def test_ranges_of_dropped_frames_stay_few() -> None:
    dropped = DroppedFrames()
    for n in range(3 * MAX_RANGES):
        dropped.add(2 * n, 2 * n + 1, "slow_reader")
    assert len(dropped.firsts) == MAX_RANGES
    assert dropped.by_reason == {"slow_reader": 3 * MAX_RANGES}
