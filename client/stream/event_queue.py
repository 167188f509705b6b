"""A bounded queue of events that were received and not read yet. Pure: no waiting."""

from collections import deque
from typing import Final

from client.stream.events import Event, Frame
from kfusion import wire


class EventQueue:
    """Events in wire order, with at most ``max_frames`` frames among them.

    A live queue replaces its oldest frames by ``wire.Dropped`` with the reason ``slow_reader``. A
    file's queue drops nothing: while it is ``full``, its owner must not put more.
    """

    MAX_OTHERS: Final = 1000

    def __init__(self, max_frames: int, *, live: bool) -> None:
        self.max_frames, self.live = max_frames, live
        self.events: deque[Event] = deque()
        self.frames = 0

    def put(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Frame):
            self.frames += 1
            if self.live and self.frames > self.max_frames:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        at = next(i for i, event in enumerate(self.events) if isinstance(event, Frame))
        frame = self.events[at]
        assert isinstance(frame, Frame)
        self.frames -= 1
        before = self.events[at - 1] if at else None
        if isinstance(before, wire.Dropped) and before.reason == "slow_reader":
            # Nothing lies between the two: frames and drops follow each other without a gap.
            self.events[at - 1] = wire.Dropped(before.first, before.count + 1, "slow_reader")
            del self.events[at]
        else:
            self.events[at] = wire.Dropped(frame.n, 1, "slow_reader")

    @property
    def full(self) -> bool:
        if len(self.events) - self.frames >= self.MAX_OTHERS:
            return True
        return not self.live and self.frames >= self.max_frames

    def pop(self) -> Event | None:
        """The next event, or None when the queue is empty."""
        if not self.events:
            return None
        event = self.events.popleft()
        self.frames -= isinstance(event, Frame)
        return event
