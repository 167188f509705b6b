"""What is to be sent, and sent again: every frame once, and counted once."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kfusion import wire
from kfusion.landmarks import NEUTRAL, NEUTRAL_IDENTITY
from server.session.history import HISTORY, MAX_HISTORY
from server.session.outbox import MAX_RANGES, DroppedFrames, Outbox
from server.session.rendering import FrameChunk, Rendering


class Reader:
    """An outbox, who fills it, and a client that keeps what it got."""

    def __init__(self) -> None:
        self.outbox = Outbox("json")
        self.put = 0
        self.got: list[Any] = []

    def fill(self, count: int) -> None:
        numbers = np.arange(self.put, self.put + count, dtype=np.float32)
        moved = np.broadcast_to(numbers[:, None, None], (count, 68, 2)).copy()
        self.outbox.put_frames(FrameChunk(self.put, moved, Rendering(NEUTRAL_IDENTITY)))
        self.put += count

    def mark(self) -> None:
        self.outbox.put(wire.MarkReached(f"{self.put}", self.put))

    def read(self, count: int) -> None:
        for _ in range(count):
            message = self.outbox.pop(0)
            if message is None:
                return
            self.got.append(wire.parse_server(str(message)))

    def rewind(self, wanted: int) -> None:
        self.outbox.rewind(wanted)
        kept: list[Any] = []
        for m in self.got:
            if isinstance(m, wire.Dropped):
                count = min(m.count, wanted - m.first)
                if count > 0:
                    kept.append(wire.Dropped(m.first, count, m.reason))
            elif m.n < wanted:
                kept.append(m)
        self.got = kept

    @property
    def frames(self) -> list[int]:
        return [m.n for m in self.got if isinstance(m, wire.Frame)]

    @property
    def dropped(self) -> list[int]:
        ranges = [m for m in self.got if isinstance(m, wire.Dropped)]
        return [n for m in ranges for n in range(m.first, m.first + m.count)]

    def check(self) -> None:
        outbox = self.outbox
        assert outbox.sent + outbox.total_dropped + outbox.waiting == self.put
        held = sum(len(m) for m in outbox.history.items if isinstance(m, FrameChunk))
        assert held == outbox.history.frames <= HISTORY and len(outbox.history.items) <= MAX_HISTORY


STEPS = st.one_of(
    st.tuples(st.just("fill"), st.integers(1, 700)),
    st.tuples(st.just("read"), st.integers(1, 1500)),
    st.tuples(st.just("rewind"), st.integers(0, 1000)),
    st.tuples(st.just("drop"), st.integers(1, 300)),
    st.tuples(st.just("reset"), st.integers(0, 50)),
    st.tuples(st.just("mark"), st.just(0)),
)


@given(st.lists(STEPS, max_size=25))
def test_every_frame_comes_once_or_is_announced_and_is_counted_once(
    steps: list[tuple[str, int]],
) -> None:
    reader = Reader()
    marks = 0
    for step, size in steps:
        if step == "fill":
            reader.fill(size)
        elif step == "read":
            reader.read(size)
        elif step == "rewind":  # from anywhere at all up to what was sent
            reader.rewind(reader.outbox.history.end * size // 1000)
        elif step == "drop":
            reader.outbox.drop_oldest(min(size, reader.outbox.waiting), "slow_reader")
        elif step == "reset":
            reader.outbox.drop_all(reader.put, reader.put + size, "reset")
            reader.put += size
        else:
            reader.mark()
            marks += 1
        reader.check()
    reader.read(100_000)
    reader.check()
    assert sorted(reader.frames + reader.dropped) == list(range(reader.put))
    assert len(reader.frames) == reader.outbox.sent
    assert len(reader.dropped) == reader.outbox.total_dropped
    told = 0
    for m in reader.got:  # in their order, and no mark before its frame
        if isinstance(m, wire.MarkReached):
            assert m.n <= told
            marks -= 1
        else:
            first = m.n if isinstance(m, wire.Frame) else m.first
            assert first == told
            told += 1 if isinstance(m, wire.Frame) else m.count
        if isinstance(m, wire.Frame):
            np.testing.assert_allclose(m.points - NEUTRAL.ravel(), m.n, atol=1e-3)
    assert marks >= 0


def test_nine_hundred_frames_come_again_and_older_ones_are_announced() -> None:
    reader = Reader()
    for _ in range(400):
        reader.fill(3)
        reader.mark()
    reader.read(10_000)
    reader.rewind(100)
    reader.read(10_000)
    again = reader.got[reader.got.index(wire.Dropped(100, 200, "resume")) :]
    assert [m.n for m in again if isinstance(m, wire.Frame)] == list(range(300, 1200))
    assert [m.n for m in again if isinstance(m, wire.MarkReached)] == list(range(300, 1201, 3))
    assert (reader.outbox.sent, reader.outbox.total_dropped) == (1000, 200)
    assert reader.outbox.written == 2100


def test_what_was_dropped_before_is_not_counted_again() -> None:
    reader = Reader()
    reader.fill(400)
    reader.outbox.drop_oldest(100, "slow_reader")
    reader.read(10_000)
    reader.fill(900)
    reader.read(10_000)
    reader.rewind(50)
    assert reader.outbox.dropped == {"slow_reader": 100, "resume": 300}
    reader.read(10_000)
    assert len(reader.frames) == 900 and reader.dropped == list(range(400))


def test_what_is_dropped_twice_is_announced_by_one_range() -> None:
    reader = Reader()
    for dropped in (0, 4, 0):
        reader.fill(10)
        reader.outbox.drop_oldest(dropped, "slow_reader")
        reader.read(100)
    reader.rewind(5)
    reader.read(2)
    reader.outbox.drop_all(30, 32, "reset")
    reader.put = 32
    reader.read(100)
    reader.check()
    assert [m for m in reader.got if isinstance(m, wire.Dropped)] == [wire.Dropped(7, 25, "reset")]
    assert reader.frames == list(range(7))


def test_replies_are_remembered_within_a_bound() -> None:
    reader = Reader()
    reader.fill(5)
    for _ in range(3 * MAX_HISTORY):
        reader.outbox.put(wire.EmotionSet({}, 5, 0.0))
        reader.read(10)
    reader.check()
    reader.rewind(2)
    reader.read(10_000)
    assert reader.dropped == [2, 3, 4] and reader.frames == [0, 1]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=30))
def test_ranges_of_dropped_frames_are_a_set(ranges: list[tuple[int, int]]) -> None:
    dropped = DroppedFrames()
    seen: set[int] = set()
    for first, count in ranges:
        new = set(range(first, first + count)) - seen
        assert dropped.add(first, first + count, "overload") == len(new)
        seen |= new
        assert sum(dropped.by_reason.values()) == len(seen)
        assert dropped.within(10, 30) == len(seen & set(range(10, 30)))


def test_ranges_of_dropped_frames_stay_few() -> None:
    dropped = DroppedFrames()
    for n in range(3 * MAX_RANGES):
        dropped.add(2 * n, 2 * n + 1, "slow_reader")
    assert len(dropped.firsts) == MAX_RANGES
    assert dropped.by_reason == {"slow_reader": 3 * MAX_RANGES}
