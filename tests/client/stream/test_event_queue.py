"""The queue of unread events."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from client import Frame
from client.stream.event_queue import EventQueue
from kfusion import wire
from kfusion.landmarks import NEUTRAL


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 8))
def test_a_live_queue_has_every_frame_once(actions: list[int], max_frames: int) -> None:
    queue, n, due = EventQueue(max_frames, live=True), 0, 0
    for action in actions:
        if action == 0:
            event = queue.pop()
            if isinstance(event, wire.Dropped):
                assert event.first == due
                due += event.count
            elif isinstance(event, Frame):
                assert event.n == due
                due += 1
        elif action == 1:
            queue.put(wire.MarkReached("m", n))
        else:
            queue.put(Frame(n, n / 30, NEUTRAL.astype(np.float32)))
            n += 1
        assert queue.frames <= max_frames
